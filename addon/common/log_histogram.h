// How often durations of which size came, in fixed buckets on a logarithmic scale: four to each doubling, so that a
// bucket's upper bound is at most a quarter above its lower one.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace backdoors {

// One thread counts; any may read at any time, without a lock, and finds each bucket as it was at some instant.
class LogHistogram {
 public:
  // Below the first bound lies the first bucket, and beyond the last (9 s) the last: 2^7 ns, then 4 for each of 26 doublings.
  static constexpr unsigned kFirstExponent = 7;
  static constexpr size_t kDoublings = 26;
  static constexpr size_t kBuckets = 2 + 4 * kDoublings;

  static constexpr size_t BucketOf(uint64_t ns) noexcept {
    if (ns < (uint64_t{1} << kFirstExponent)) return 0;
    const auto exponent = static_cast<unsigned>(std::bit_width(ns)) - 1;
    const size_t quarter = (ns >> (exponent - 2)) & 3;
    const size_t bucket = 1 + 4 * (exponent - kFirstExponent) + quarter;
    return bucket < kBuckets ? bucket : kBuckets - 1;
  }

  void Count(uint64_t ns) noexcept {
    std::atomic<uint64_t>& count = counts_[BucketOf(ns)];
    // No atomic addition is needed, as nobody else writes.
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  uint64_t At(size_t bucket) const noexcept { return counts_[bucket].load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, kBuckets> counts_{};
};

static_assert(LogHistogram::BucketOf(127) == 0 && LogHistogram::BucketOf(128) == 1);
static_assert(LogHistogram::BucketOf(159) == 1 && LogHistogram::BucketOf(160) == 2);
static_assert(LogHistogram::BucketOf(255) == 4 && LogHistogram::BucketOf(256) == 5);
static_assert(LogHistogram::BucketOf(UINT64_MAX) == LogHistogram::kBuckets - 1);

// What is counted of one target.
struct TargetHistograms {
  // Of successful reads: from post to completion.
  LogHistogram round_trips;
  // How much later than meant reads were posted.
  LogHistogram lateness;
  // The greatest age that a counter reached before it moved, by the rule of SampledTarget.
  LogHistogram ages;
};

}  // namespace backdoors
