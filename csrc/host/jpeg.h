// What an encoded JPEG file says of itself.
#pragma once

#include <cstdint>

namespace sslfast {

struct JpegHeader {
  int components = 0;  // 1 gray, 3 colour, 4 inks; 0 for what is no JPEG file, or is damaged
  // Of the picture as it is to be shown, turned by its EXIF orientation; 0 where the file does not say it plainly, or
  // has no end.
  int height = 0, width = 0;
};

JpegHeader jpeg_header(const uint8_t* content, int64_t bytes);

}  // namespace sslfast
