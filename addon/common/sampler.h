// The sampler's thread: reads many memories, each at an interval of its own, and notices what stops. It exists because
// the event loop's jitter and garbage collection must not decide when a failure is seen.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "sampled_target.h"
#include "sampler_events.h"
#include "thread.h"

namespace backdoors {

// The methods are of one thread (the event loop's); none of them waits for a read.
class Sampler {
 public:
  // `wake` is called on the sampler's thread when there are events to take.
  explicit Sampler(std::function<void()> wake) : wake_(std::move(wake)) {}
  ~Sampler() { Stop(); }
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Starts the thread at the first call. Returns the target's number, from 0, which is never used again; or, where the
  // thread could not be started, a negative errno.
  int64_t Add(SamplePlan plan);
  // Null where there is none of this number.
  const SampledTarget* Find(uint32_t target) const;
  // The target must exist. A read under way with the old source ends before the new one's first is posted.
  void Update(uint32_t target, SamplePlan plan);
  void Remove(uint32_t target);
  size_t size() const { return by_id_.size(); }

  // Events of targets that have been removed since are left out.
  std::vector<SamplerEvent> TakeEvents();

  // Joins the thread and lets go of all targets. Idempotent.
  void Stop();

 private:
  // A target as the thread sees it.
  struct Slot {
    std::shared_ptr<SampledTarget> target;
    // Not null while a read is under way.
    std::shared_ptr<SampleSource> running = nullptr;
    uint64_t due_ns = 0;
    // When the last read ended: before that the next could not begin.
    uint64_t free_ns = 0;
    uint64_t lateness_ns = 0;
    Moment posted = {};
    bool is_removed = false;
  };

  void Publish();
  void Run();
  Moment LookAtClock();
  void TakeTargets();
  void PostDue();
  void Post(Slot* slot, Moment now, std::shared_ptr<SampleSource> source);
  void PollRunning();
  bool Finish(Slot* slot, SampleSource::Progress progress);
  uint64_t NextWakeNs(uint64_t now_ns) const;
  void WaitUntil(uint64_t wake_ns);

  const std::function<void()> wake_;
  SamplerEventQueue events_{4096};
  Thread thread_;

  // The event loop's.
  std::unordered_map<uint32_t, std::shared_ptr<SampledTarget>> by_id_;
  uint32_t next_id_ = 0;

  // Handed over: the targets there are now. `generation_` says without the lock that they have changed.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<SampledTarget>> targets_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<bool> stopping_{false};

  // The thread's.
  std::vector<Slot> slots_;
  uint64_t taken_generation_ = 0;
  // When the thread meant to look at the clock next, and how much later it did, altogether.
  uint64_t expected_ns_ = 0;
  uint64_t late_ns_ = 0;
};

}  // namespace backdoors
