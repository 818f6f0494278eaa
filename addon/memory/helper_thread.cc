#include "helper_thread.h"

#include <utility>

#include "common/clock.h"

namespace backdoors::memory {

namespace {

// The helper, where it runs, ends soon after who works beside it: for so long, going to sleep and waking up would take longer.
constexpr uint64_t kSpinNs = 50'000;

// Leaves the processor to its other hardware thread, which may be the helper's.
void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  asm volatile("yield");
#endif
}

}  // namespace

void HelperThread::Offer(std::function<void()> work) {
  if (!thread_.is_running() && thread_.Start("bd-helper", [this] { Run(); }) != 0) return;
  {
    const std::lock_guard lock(mutex_);
    offered_ = std::move(work);
  }
  changed_.notify_all();
}

void HelperThread::Withdraw() {
  {
    const std::lock_guard lock(mutex_);
    offered_ = nullptr;
  }
  const uint64_t until_ns = MonotonicNs() + kSpinNs;
  while (is_working_.load(std::memory_order_acquire) && MonotonicNs() < until_ns) Pause();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !is_working_.load(std::memory_order_relaxed); });
}

void HelperThread::Stop() {
  if (!thread_.is_running()) return;
  Withdraw();
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.Join();
  is_stopping_ = false;
}

void HelperThread::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return is_stopping_ || offered_ != nullptr; });
    if (is_stopping_) return;
    const auto work = std::exchange(offered_, nullptr);
    is_working_.store(true, std::memory_order_relaxed);
    lock.unlock();
    work();
    lock.lock();
    is_working_.store(false, std::memory_order_release);
    changed_.notify_all();
  }
}

}  // namespace backdoors::memory
