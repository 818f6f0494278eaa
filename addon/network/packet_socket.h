// Sends whole Ethernet frames: see packet(7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace backdoors::network {

constexpr size_t kEthernetHeaderBytes = 14;

// Sends one frame, header and all, without waiting. Returns 0 or an errno, and in `*call` the name of the call that failed.
int SendFrame(int interface_index, std::span<const uint8_t> frame, const char** call);

}  // namespace backdoors::network
