// A thread that takes part in what another does, where it comes to it in time. Whoever offers work does it as well, and waits
// for what the helper has begun, but never for what it has not: on a busy machine it may not run for long.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>

#include "common/thread.h"

namespace backdoors::memory {

class HelperThread {
 public:
  HelperThread() = default;
  ~HelperThread() { Stop(); }
  HelperThread(const HelperThread&) = delete;
  HelperThread& operator=(const HelperThread&) = delete;

  // The helper calls `work` once, or not at all: it has been withdrawn by then, or there is no thread to be had. It does not throw. To
  // be withdrawn before more is offered, and before what it uses goes.
  void Offer(std::function<void()> work);
  // From its return on the helper does nothing with what was offered; what it did with it is seen by the caller. Where the helper has begun
  // and its processor was then given to others, the caller waits until it gets it back: for a scheduling period, or more of them.
  void Withdraw();
  // Withdraws, and ends the thread, which the next offer starts anew.
  void Stop();

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  // Empty where nothing is offered.
  std::function<void()> offered_;
  // Changed under the mutex.
  std::atomic<bool> is_working_{false};
  bool is_stopping_ = false;
  Thread thread_;
};

}  // namespace backdoors::memory
