// Image files, on disk or inside archives, read into memory that the caller keeps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sslfast {

// A file, or `size` bytes of one from `offset` on; a negative `size` means the whole file.
struct FilePiece {
  std::string path;
  int64_t offset, size;
  bool whole = false;  // whether all of it is there
};

// Looks for every piece: sets its size, 0 where it is not there whole. Returns the sum of the sizes.
int64_t find_pieces(std::vector<FilePiece>& pieces);

// Reads the pieces that were found, one after the other, to `target`; looks again whether they are whole.
void read_pieces(std::vector<FilePiece>& pieces, uint8_t* target);

}  // namespace sslfast
