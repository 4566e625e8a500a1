// Errors that name the cause and the cure.
#pragma once

#include <sstream>
#include <stdexcept>

namespace sslfast {

// Throws std::runtime_error (RuntimeError in Python) made of `parts` unless `holds`.
template <class... Parts>
inline void check(bool holds, const Parts&... parts) {
  if (holds) return;
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

}  // namespace sslfast
