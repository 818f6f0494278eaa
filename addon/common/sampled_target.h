// One memory the sampler watches: what was seen of its cells, and the rule by which a cell has stalled.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "log_histogram.h"
#include "sample_source.h"
#include "sampler_events.h"

namespace backdoors {

// Positions are offsets into the source's data().
struct SampledCell {
  uint32_t counter_position;
  // -1 where the counter always has to move.
  int64_t pending_position;
  uint64_t deadline_ns;
};

struct SamplePlan {
  std::shared_ptr<SampleSource> source;
  std::vector<SampledCell> cells;
  uint64_t interval_ns;
  uint64_t unreachable_after_ns;
};

// A moment as the watcher knows it. `late_ns` is all the time until then in which the watcher itself was late; between
// two moments only the time in which it was not late counts against a peer.
struct Moment {
  uint64_t at_ns = 0;
  uint64_t late_ns = 0;

  // Never negative: a moment that is not later is 0 away.
  uint64_t Since(const Moment& earlier) const noexcept {
    const uint64_t passed = at_ns > earlier.at_ns ? at_ns - earlier.at_ns : 0;
    const uint64_t late = late_ns - earlier.late_ns;
    return passed > late ? passed - late : 0;
  }
};

struct CellReport {
  uint32_t counter = 0;
  uint32_t pending = 0;
  uint64_t age_ns = 0;
  bool stalled = false;
};

struct TargetReport {
  bool reachable = true;
  uint64_t rounds = 0;
  uint64_t failed_rounds = 0;
  uint64_t max_lateness_ns = 0;
  uint64_t last_round_trip_ns = 0;
  double mean_round_trip_ns = 0;
  std::vector<CellReport> cells;
};

// Of any thread. The rule, which never lets the watcher's own delays condemn a peer (the simulation has the same,
// src/fabric/mock/watch-rule.ts):
// - A read shows the memory at some instant between its post and its completion. A counter is known not to have moved
//   from the completion of the read that first saw its value until the post of the latest read that still sees it.
// - Time in which the watcher was late does not count (Moment).
// - While the pending word is 0 the age is held at 0; it begins with the first read that sees work pending.
// - After reads have failed for so long that the memory was unreachable, ages begin anew.
class SampledTarget {
 public:
  SampledTarget(uint32_t id, SamplePlan plan, SamplerEventQueue* events);

  uint32_t id() const { return id_; }
  // What the next post uses; null where the target has been removed.
  std::shared_ptr<SampleSource> source() const;
  uint64_t interval_ns() const;

  // Replaces the plan; cells that stand in both at the same offsets of the memory keep their history.
  void Update(SamplePlan plan);
  // No event is raised from here on.
  void Remove();
  TargetReport Report() const;
  // Read without a lock, while the thread counts on.
  const TargetHistograms& histograms() const { return histograms_; }

  // The thread has taken it up: its time to be reached runs from now on.
  void Begin(Moment now);
  // What the sampler's thread saw. Each returns true where the event loop has to be woken.
  bool Succeeded(const SampleSource* source, Moment posted, Moment completed, uint64_t lateness_ns);
  bool Failed(const char* status, Moment now, uint64_t lateness_ns);
  // A read is still under way.
  bool StillPending(Moment now);

 private:
  struct CellHistory {
    // Where the cell stands in the memory; for the pending word kNone where there is none.
    uint64_t counter_offset;
    uint64_t pending_offset;
    bool seen = false;
    uint32_t counter = 0;
    uint32_t pending = 0;
    Moment changed = {};
    uint64_t age_ns = 0;
    bool stalled = false;
  };

  static std::vector<CellHistory> NewHistory(const SamplePlan& plan);
  bool Look(uint32_t index, const uint8_t* data, Moment posted, Moment completed, bool anew);
  bool CheckReachable(Moment now);
  void CountRound(uint64_t lateness_ns);

  const uint32_t id_;
  SamplerEventQueue* const events_;
  mutable std::mutex mutex_;
  SamplePlan plan_;
  std::vector<CellHistory> history_;
  TargetReport report_;
  TargetHistograms histograms_;
  Moment last_success_;
  // The first failure since then: it tells the cause, and those after it may only tell that the queue pair is broken.
  const char* failure_ = nullptr;
};

}  // namespace backdoors
