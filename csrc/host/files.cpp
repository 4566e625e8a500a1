#include "csrc/host/files.h"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

namespace sslfast {
namespace {

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

bool read_piece(const FilePiece& piece, uint8_t* target) {
  const std::unique_ptr<std::FILE, Close> file(std::fopen(piece.path.c_str(), "rb"));
  if (!file) return false;
  std::setvbuf(file.get(), nullptr, _IONBF, 0);  // it goes straight to its place
  if (piece.offset != 0 && std::fseek(file.get(), static_cast<long>(piece.offset), SEEK_SET) != 0) return false;
  const size_t size = static_cast<size_t>(piece.size);
  return std::fread(target, 1, size, file.get()) == size;
}

// Markers of ITU-T T.81, table B.1.
bool starts_frame(uint8_t marker) {
  return 0xC0 <= marker && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

bool has_length(uint8_t marker) { return marker != 0x01 && !(0xD0 <= marker && marker <= 0xD8); }

}  // namespace

int64_t find_pieces(std::vector<FilePiece>& pieces) {
  int64_t sum = 0;
  for (FilePiece& piece : pieces) {
    std::error_code error;
    const auto found = std::filesystem::file_size(piece.path, error);
    const int64_t rest = error ? -1 : static_cast<int64_t>(found) - piece.offset;  // from its beginning on
    if (piece.size < 0) piece.size = rest;
    piece.whole = 0 <= piece.size && piece.size <= rest;
    if (!piece.whole) piece.size = 0;
    sum += piece.size;
  }
  return sum;
}

void read_pieces(std::vector<FilePiece>& pieces, uint8_t* target) {
  for (FilePiece& piece : pieces) {
    piece.whole = piece.whole && read_piece(piece, target);
    target += piece.size;
  }
}

int jpeg_components(const uint8_t* content, int64_t bytes) {
  if (bytes < 3 || content[0] != 0xFF || content[1] != 0xD8 || content[2] != 0xFF) return 0;
  int64_t place = 2;
  while (place + 10 <= bytes && content[place] == 0xFF) {
    const uint8_t marker = content[place + 1];
    if (starts_frame(marker)) return content[place + 9];  // after length (2 bytes), precision (1), height, width (2)
    if (marker == 0xFF) {                                 // a fill byte
      ++place;
    } else {
      place += 2 + (has_length(marker) ? content[place + 2] << 8 | content[place + 3] : 0);
    }
  }
  return 0;
}

}  // namespace sslfast
