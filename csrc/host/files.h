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
};

// Puts the size of what is to be read into every piece; 0 where there is no such file. Returns the sum.
int64_t resolve_sizes(std::vector<FilePiece>& pieces);

// Reads the pieces, with their sizes resolved, one after the other to `target`; returns which of them are there whole.
std::vector<bool> read_pieces(const std::vector<FilePiece>& pieces, uint8_t* target);

// Components of an encoded JPEG file: 1 gray, 3 colour, 4 inks; 0 for what is no JPEG file, or is damaged.
int jpeg_components(const uint8_t* content, int64_t bytes);

}  // namespace sslfast
