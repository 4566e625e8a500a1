// Threads for long jobs beside other work; they sleep between jobs.
//
// torch's own pool (OpenMP) spins for milliseconds after every loop, in the hope of the next one. Where views are made
// while a decoder's threads want the same cores, that costs half as much again as the views do. Waking a thread takes
// some ten microseconds, little for a batch of images, and nobody waits for one that comes too late.
#pragma once

#include <cstdint>

namespace sslfast {

// Calls body(context) on this thread and, at the same time, on others: as many in all as torch uses, at most one for
// each of the `pieces` of the work, of which body takes one after the other until none is left. Returns when all that
// began have ended, and throws what the first of them threw.
void share_out(int64_t pieces, void (*body)(const void*), const void* context);

template <class Body>
inline void share_out(int64_t pieces, const Body& body) {
  share_out(pieces, [](const void* context) { (*static_cast<const Body*>(context))(); }, &body);
}

}  // namespace sslfast
