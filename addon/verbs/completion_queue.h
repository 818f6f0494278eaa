// A completion queue, and the lock of everything that completes to it.
//
// The event loop and a sampler's thread may share a queue pair. Whoever polls hands each completion to its batch, so
// either may find the other's; `mutex` guards the queue, its queue pairs and their batches. The sampler asks its own
// batch for its state. The event loop takes the batches it waits for from the list of the settled.
//
// Why no wake-up is lost: the loop sleeps only after it has armed the queue and polled once more. A completion after
// that makes an event, whoever polls it away, and the event makes the loop look at the list.
#pragma once

#include <infiniband/verbs.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "common/clock.h"
#include "context.h"

namespace backdoors::verbs {

class WorkBatch;

class CompletionQueue {
 public:
  static std::shared_ptr<CompletionQueue> Create(std::shared_ptr<Context> context, int depth, Failure* failure);
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;

  std::mutex& mutex() { return mutex_; }
  ibv_cq* get() const { return queue_; }
  int depth() const { return queue_->cqe; }
  // Readable when an event is due; never blocks.
  int event_descriptor() const { return channel_->fd; }

  // Polls until `is_over`, looked at after each poll, or for `timeout_ns`; returns is_over(). The lock, which the
  // caller holds, is given away whenever a sampler's thread wants it: its clock does not wait.
  template <typename IsOver>
  bool Spin(std::unique_lock<std::mutex>& lock, uint64_t timeout_ns, IsOver is_over) {
    // A look at the clock takes longer than a poll. So there is none before the first few hundred polls were in vain.
    constexpr uint32_t kPollsPerLook = 256;
    uint64_t deadline_ns = 0;
    for (uint32_t polls = 1;; ++polls) {
      Poll();
      if (is_over()) return true;
      if (wanted_.load(std::memory_order_relaxed) > 0) GiveWay(lock);
      if (polls % kPollsPerLook != 0) continue;
      const uint64_t now_ns = MonotonicNs();
      if (deadline_ns == 0) deadline_ns = now_ns + timeout_ns;
      if (now_ns >= deadline_ns) return false;
    }
  }
  // How a sampler's thread takes the mutex.
  std::unique_lock<std::mutex> LockSoon() {
    wanted_.fetch_add(1, std::memory_order_relaxed);
    std::unique_lock lock(mutex_);
    wanted_.fetch_sub(1, std::memory_order_relaxed);
    return lock;
  }

  // All below are called with the mutex held.

  // Each request of a failed queue pair completes, so a queue must have room for all that can be outstanding.
  bool Reserve(int entries);
  void Unreserve(int entries) { reserved_ -= entries; }
  // Hands every completion there is to its batch.
  void Poll();
  // Asks for an event at the next completion, unless that is so already. Returns 0 or an errno.
  int Arm();
  // Takes and acknowledges the event that has come, if any; the queue is not armed any more then. There is one event
  // at most for each arming, and the descriptor stays readable while there is another.
  void TakeEvent();
  // A batch that the event loop waits for is done or has failed.
  void Settle(WorkBatch* batch);
  WorkBatch* TakeSettled();
  bool HasSettled() const { return settled_ != nullptr; }

 private:
  CompletionQueue(std::shared_ptr<Context> context, ibv_comp_channel* channel, ibv_cq* queue)
      : context_(std::move(context)), channel_(channel), queue_(queue) {}

  void GiveWay(std::unique_lock<std::mutex>& lock);

  std::shared_ptr<Context> context_;
  ibv_comp_channel* channel_;
  ibv_cq* queue_;
  std::mutex mutex_;
  std::atomic<int> wanted_{0};
  int reserved_ = 0;
  bool armed_ = false;
  // A list in the order of completion; a batch is on it at most once.
  WorkBatch* settled_ = nullptr;
  WorkBatch* last_settled_ = nullptr;
};

}  // namespace backdoors::verbs
