#include "csrc/host/jpeg.h"

#include <algorithm>
#include <cstring>

namespace sslfast {
namespace {

constexpr int64_t tail_bytes = 1024;  // some programs append to their files; the end of the picture is sought in these

// Markers of ITU-T T.81, table B.1.
bool starts_frame(uint8_t marker) {
  return 0xC0 <= marker && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

bool has_length(uint8_t marker) { return marker != 0x01 && !(0xD0 <= marker && marker <= 0xD8); }

bool has_end(const uint8_t* content, int64_t bytes) {
  for (int64_t k = bytes - 2; k >= std::max<int64_t>(bytes - tail_bytes, 0); --k) {
    if (content[k] == 0xFF && content[k + 1] == 0xD9) return true;
  }
  return false;
}

// Numbers of a TIFF file, whose byte order the file chooses.
struct Tiff {
  const uint8_t* content;
  int64_t bytes;
  bool little;

  bool holds(int64_t place, int64_t size) const { return place >= 0 && place + size <= bytes; }
  uint32_t number(int64_t place, int size) const {
    uint32_t value = 0;
    for (int k = 0; k < size; ++k) value = value << 8 | content[place + (little ? size - 1 - k : k)];
    return value;
  }
};

// The orientation in the segment of an application, 1 to 8: 1 where it has none, 0 where that is unclear. EXIF 2.3,
// sections 4.5 and 4.6: one SHORT with tag 0x0112 in the first directory.
int orientation(const uint8_t* segment, int64_t bytes) {
  constexpr int64_t name_bytes = 6, entry_bytes = 12;
  if (bytes < name_bytes || std::memcmp(segment, "Exif\0\0", name_bytes) != 0) return 1;
  Tiff tiff{segment + name_bytes, bytes - name_bytes, false};
  if (!tiff.holds(0, 8)) return 0;
  tiff.little = tiff.content[0] == 'I';
  if (tiff.content[0] != tiff.content[1] || (!tiff.little && tiff.content[0] != 'M') || tiff.number(2, 2) != 42)
    return 0;
  const int64_t directory = tiff.number(4, 4);
  if (!tiff.holds(directory, 2)) return 0;
  const int64_t entries = tiff.number(directory, 2);
  if (!tiff.holds(directory + 2, entries * entry_bytes)) return 0;
  for (int64_t k = 0; k < entries; ++k) {
    const int64_t entry = directory + 2 + k * entry_bytes;
    if (tiff.number(entry, 2) != 0x0112) continue;
    const uint32_t value = tiff.number(entry + 8, 2);
    if (tiff.number(entry + 2, 2) != 3 || tiff.number(entry + 4, 4) != 1) return 0;
    return 1 <= value && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace

JpegHeader jpeg_header(const uint8_t* content, int64_t bytes) {
  JpegHeader header;
  if (bytes < 3 || content[0] != 0xFF || content[1] != 0xD8 || content[2] != 0xFF) return header;
  const uint8_t* frame = nullptr;
  int turned = 1;
  bool plain = true;
  int64_t place = 2;
  while (place + 10 <= bytes && content[place] == 0xFF) {
    const uint8_t* segment = content + place;
    const uint8_t marker = segment[1];
    const auto pair = [](const uint8_t* at) { return at[0] << 8 | at[1]; };
    if (marker == 0xDA) {  // the first scan: what follows the frame may turn the picture, too
      if (!plain) header.components = 0;
      if (frame != nullptr && plain && has_end(segment, bytes - place)) {
        header.height = pair(frame + (turned < 5 ? 5 : 7));
        header.width = pair(frame + (turned < 5 ? 7 : 5));
      }
      return header;
    }
    if (marker == 0xFF) {  // a fill byte
      ++place;
      continue;
    }
    if (starts_frame(marker) && frame == nullptr) {  // then length (2 bytes), precision (1), height, width (2 each)
      frame = segment;
      header.components = segment[9];
    }
    const int64_t length = has_length(marker) ? pair(segment + 2) : 0;
    if (marker == 0xE1 && length >= 2) {
      const int found = orientation(segment + 4, std::min(length - 2, bytes - place - 4));
      plain = plain && found != 0 && (turned == 1 || found == 1);  // two orientations contradict each other
      if (found > 1) turned = found;
    }
    place += 2 + length;
  }
  return header;
}

}  // namespace sslfast
