// The one clock of the addon: CLOCK_MONOTONIC, which no time synchronization can set back.
#pragma once

#include <ctime>

#include <cstdint>

namespace backdoors {

inline uint64_t MonotonicNs() noexcept {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

// JavaScript is given times as microseconds in a double, which is exact to the nanosecond for 100 days of uptime.
inline double ToUs(uint64_t ns) noexcept { return static_cast<double>(ns) / 1000.0; }

}  // namespace backdoors
