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

}  // namespace sslfast
