// The processor's own time stamp, as perftest takes it: on some machines clock_gettime takes as long as a read does.
#pragma once

#include <cstdint>

#include "common/clock.h"
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace backdoors::verbs {

// Cycles are told in time by how many of them passed between its making and NsPerCycle().
class CycleClock {
 public:
  CycleClock() : start_ns_(MonotonicNs()), start_cycles_(Now()) {}

  static uint64_t Now() noexcept {
#if defined(__x86_64__)
    return __rdtsc();
#elif defined(__aarch64__)
    uint64_t cycles;
    asm volatile("isb; mrs %0, cntvct_el0" : "=r"(cycles));
    return cycles;
#else
    return MonotonicNs();
#endif
  }

  double NsPerCycle() const {
    // Over less than this the two clocks' own grain would show.
    constexpr uint64_t kLeastNs = 10'000'000;
    uint64_t now_ns = MonotonicNs();
    while (now_ns - start_ns_ < kLeastNs) now_ns = MonotonicNs();
    return static_cast<double>(now_ns - start_ns_) / static_cast<double>(Now() - start_cycles_);
  }

 private:
  uint64_t start_ns_;
  uint64_t start_cycles_;
};

}  // namespace backdoors::verbs
