// What an encoded JPEG file says of itself.
#pragma once

#include <cstdint>

namespace sslfast {

struct JpegHeader {
  // 1 gray, 3 colour, 4 inks; 0 for what is no JPEG file, is damaged, or does not say plainly how it is turned: of that
  // decoders make different pictures.
  int components = 0;
  int height = 0, width = 0;  // of the picture as it is to be shown, turned by its EXIF orientation; 0 without an end
};

JpegHeader jpeg_header(const uint8_t* content, int64_t bytes);

}  // namespace sslfast
