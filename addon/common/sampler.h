// The sampler's thread: reads many memories, each at an interval of its own, and notices what stops. It exists because
// the event loop's jitter and garbage collection must not decide when a failure is seen.
//
// Each turn of the thread posts the reads of all targets that are due, and then polls those that are under way, each as
// often as suits the time it has taken so far: one that does not come back holds up nobody, and costs next to nothing.
// What a turn costs depends on the targets that it serves, not on how many there are.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "sampled_target.h"
#include "sampler_events.h"
#include "thread.h"
#include "timer_heap.h"

namespace backdoors {

struct SamplerOptions {
  // The processor that the thread keeps to; -1 for any.
  int cpu = -1;
  bool realtime = false;
};

// The methods are of one thread (the event loop's); none of them waits for a read.
class Sampler {
 public:
  // `wake` is called on the sampler's thread when there are events to take.
  explicit Sampler(std::function<void()> wake, SamplerOptions options = {})
      : wake_(std::move(wake)), options_(options) {}
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

  // What was not permitted when the thread was started, in words fit for a log.
  const std::vector<std::string>& warnings() const { return warnings_; }

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
    // When to look at it next: to post where nothing is under way, else to poll.
    uint64_t wake_ns = 0;
    size_t heap_index = 0;
    uint64_t due_ns = 0;
    // When the last read ended: before that the next could not begin.
    uint64_t free_ns = 0;
    uint64_t lateness_ns = 0;
    Moment posted = {};
    bool is_fast = false;
    bool is_removed = false;
  };

  enum class ChangeKind : uint8_t { kAdded, kUpdated, kRemoved };
  struct Change {
    ChangeKind kind;
    uint32_t target;
    // Of kAdded.
    std::shared_ptr<SampledTarget> added;
  };

  int StartThread();
  void Publish(Change change);
  void Run();
  Moment LookAtClock();
  void TakeChanges();
  void TakeAdded(std::shared_ptr<SampledTarget> target, Moment now);
  void TakeUpdated(Slot* slot, Moment now);
  void TakeRemoved(Slot* slot);
  void SetFast(Slot* slot, bool is_fast);
  void Turn();
  void PostIfDue(Slot* slot);
  void Post(Slot* slot, Moment now, std::shared_ptr<SampleSource> source);
  void Poll(Slot* slot);
  void Finish(Slot* slot, SampleSource::Progress progress);
  void WaitForNext();
  void WaitUntil(uint64_t wake_ns);

  const std::function<void()> wake_;
  const SamplerOptions options_;
  SamplerEventQueue events_{4096};
  Thread thread_;

  // The event loop's.
  std::unordered_map<uint32_t, std::shared_ptr<SampledTarget>> by_id_;
  uint32_t next_id_ = 0;
  std::vector<std::string> warnings_;

  // Handed over, in order. `generation_` says without the lock that there are changes.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Change> changes_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<bool> stopping_{false};

  // The thread's. All slots are in the heap but while a turn serves them.
  std::unordered_map<uint32_t, std::unique_ptr<Slot>> slots_;
  TimerHeap<Slot> heap_;
  std::vector<Slot*> served_;
  size_t fast_slots_ = 0;
  // Slots whose read is under way.
  size_t running_slots_ = 0;
  uint64_t taken_generation_ = 0;
  // When the thread meant to look at the clock next, and how much later it did, altogether.
  uint64_t expected_ns_ = 0;
  uint64_t late_ns_ = 0;
};

}  // namespace backdoors
