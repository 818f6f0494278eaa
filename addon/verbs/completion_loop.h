// Completions on the environment's event loop: the runs it waits for, the descriptor that says when to look, and the
// deadlines that hold where no completion comes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/environment.h"
#include "common/uv_handle.h"
#include "completion_queue.h"
#include "timer_handle.h"

namespace backdoors::verbs {

// What waits: a batch's object.
class AwaitedRun {
 public:
  virtual WorkBatch* awaited_batch() = 0;
  // The run is over. Called within a handle scope; JavaScript that follows from it runs after all are settled.
  virtual void Settled() = 0;

 protected:
  ~AwaitedRun() = default;

 private:
  friend class CompletionLoop;
  uint64_t timeout_us_ = 0;
  uint64_t deadline_ns_ = 0;
  size_t index_ = 0;
};

// Shared by the objects of JavaScript that use the queue; used on the event loop's thread only.
class CompletionLoop : public Resource, public std::enable_shared_from_this<CompletionLoop> {
 public:
  // Null after throwing.
  static std::shared_ptr<CompletionLoop> Open(napi_env env, std::shared_ptr<CompletionQueue> queue);
  ~CompletionLoop() override;

  CompletionQueue& queue() const { return *queue_; }
  const std::shared_ptr<CompletionQueue>& shared_queue() const { return queue_; }

  // May a run that is over as soon as it is posted be told so at once? Not without end: a program that only ever awaits
  // reads must not keep everything else on its event loop from running.
  bool MaySettleAtOnce() { return at_once_ > 0 && at_once_-- > 0; }
  // Waits for a batch that has been started and is to be told of (WorkBatch::Await). The lock is the queue's mutex's.
  void Await(AwaitedRun* run, uint64_t timeout_us, const std::unique_lock<std::mutex>& lock);
  // Settles whatever has finished without an event, such as batches of a queue pair that was closed.
  void SettleFinished();

  void CloseResource() noexcept override;

 private:
  CompletionLoop(napi_env env, std::shared_ptr<CompletionQueue> queue);

  void OnReadable();
  void OnTick();
  void KeepTicking(uint64_t timeout_us);
  void TakeSettled();
  void Settle();
  void Remove(AwaitedRun* run);

  const napi_env env_;
  std::shared_ptr<CompletionQueue> queue_;
  PollHandle readable_;
  AsyncHandle another_turn_;
  TimerHandle timer_;
  uint64_t tick_ms_ = 0;
  napi_async_context async_context_ = nullptr;
  // In no order; each knows its place.
  std::vector<AwaitedRun*> awaited_;
  // Taken off the queue's list, not yet told.
  std::vector<AwaitedRun*> settled_;
  // Runs that may still be settled at once before the loop has to turn.
  int at_once_ = 0;
};

}  // namespace backdoors::verbs
