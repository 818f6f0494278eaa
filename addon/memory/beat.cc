#include "beat.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <algorithm>
#include <chrono>

#include "common/clock.h"
#include "common/error.h"

namespace backdoors::memory {

namespace {

constexpr size_t kStackBytes = 256 * 1024;

const uint32_t* WordAt(const Mapping& pages, size_t offset) {
  return reinterpret_cast<const uint32_t*>(pages.data() + offset);
}

int LockPage(const void* address) {
  const auto page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t page = reinterpret_cast<uintptr_t>(address) / page_bytes * page_bytes;
  return mlock(reinterpret_cast<void*>(page), page_bytes) == 0 ? 0 : errno;
}

// The pages the thread touches while it beats: its stack down to what it uses.
int LockStack(pthread_t thread) {
  pthread_attr_t attributes;
  int error = pthread_getattr_np(thread, &attributes);
  if (error != 0) return error;
  void* stack = nullptr;
  size_t bytes = 0;
  error = pthread_attr_getstack(&attributes, &stack, &bytes);
  pthread_attr_destroy(&attributes);
  if (error != 0) return error;
  return mlock(stack, bytes) == 0 ? 0 : errno;
}

}  // namespace

Beat::Beat(BeatOptions options)
    : options_(std::move(options)),
      counter_(const_cast<uint32_t*>(WordAt(*options_.pages, options_.counter_offset))),
      fence_(WordAt(*options_.pages, options_.fence_offset)) {}

int Beat::Start(std::vector<std::string>* warnings) {
  const int error = thread_.Start("bd-beat", [this] { Run(); }, kStackBytes);
  if (error != 0) return error;
  // Beating takes next to no time.
  const int refused = thread_.SetRealTime();
  if (refused != 0) {
    warnings->push_back("The beat thread has no real-time priority (" + ErrnoName(refused) +
                        "): a busy processor may delay it. Grant CAP_SYS_NICE, or for a service LimitRTPRIO=10.");
  }
  LockPages(warnings);
  return 0;
}

void Beat::LockPages(std::vector<std::string>* warnings) {
  int error = LockStack(thread_.get());
  if (error == 0) error = LockPage(counter_);
  if (error == 0) error = LockPage(fence_);
  if (error == 0) error = LockPage(this);
  if (error == 0) return;
  warnings->push_back("The beat thread's memory is not locked (" + ErrnoName(error) +
                      "): swapping may delay it. Grant CAP_IPC_LOCK, or raise ulimit -l, for a service LimitMEMLOCK=.");
}

void Beat::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_one();
  thread_.Join();
}

bool Beat::BeatOnce() noexcept {
  if (options_.fence_limit != 0 && __atomic_load_n(fence_, __ATOMIC_ACQUIRE) >= options_.fence_limit) return false;
  // This thread alone writes the counter, so no atomic addition is needed.
  const uint32_t counter = __atomic_load_n(counter_, __ATOMIC_RELAXED);
  __atomic_store_n(counter_, counter + 1, __ATOMIC_RELEASE);
  beats_.store(beats_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return true;
}

void Beat::Run() {
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  uint64_t due_ns = MonotonicNs();
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (!BeatOnce()) {
      fenced_.store(true, std::memory_order_relaxed);
      return;
    }
    // Beats that were missed are not made up for: the counter tells life, not time.
    due_ns = std::max(due_ns + options_.interval_ns, MonotonicNs());
    const auto due = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(due_ns));
    stop_.wait_until(lock, due, [this] { return stopping_; });
  }
}

}  // namespace backdoors::memory
