// Keeps pages in the physical frames that they are in: who reads a machine's memory by physical addresses must find them
// again. mlock keeps pages from being swapped out, but not from being moved; a long-term pin does both. Registered buffers
// of io_uring are such a pin, for any process, and it ends with the ring.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/file_descriptor.h"

namespace backdoors::memory {

// Pins for as long as `*ring` is open. Returns 0 or an errno, and in `*call` the name of the call that failed.
int PinFrames(uint8_t* data, size_t length, FileDescriptor* ring, const char** call);

}  // namespace backdoors::memory
