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
// So many beats have to be missing before another thread makes them: few enough that no deadline a daemon has is near.
constexpr uint64_t kReliefIntervals = 4;

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
  StartRelief();
  LockPages(warnings);
  return 0;
}

// The last of the processors that are ours is the second thread's, and the others are the first's. Nothing of it is needed to beat.
void Beat::StartRelief() {
  cpu_set_t ours;
  if (sched_getaffinity(0, sizeof ours, &ours) != 0 || CPU_COUNT(&ours) < 2) return;
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &ours)) --last;
  if (relief_.Start("bd-beat-relief", [this] { Relieve(); }, kStackBytes) != 0) return;
  relief_.SetRealTime();
  relief_.PinTo(last);
  CPU_CLR(last, &ours);
  pthread_setaffinity_np(thread_.get(), sizeof ours, &ours);
}

void Beat::LockPages(std::vector<std::string>* warnings) {
  int error = LockStack(thread_.get());
  if (error == 0 && relief_.is_running()) error = LockStack(relief_.get());
  if (error == 0) error = LockPage(counter_);
  if (error == 0) error = LockPage(fence_);
  if (error == 0) error = LockPage(this);
  if (error == 0) return;
  warnings->push_back("The beat thread's memory is not locked (" + ErrnoName(error) +
                      "): swapping may delay it. Grant CAP_IPC_LOCK, or raise ulimit -l, for a service LimitMEMLOCK=.");
}

void Beat::Stop() {
  {
    const std::scoped_lock lock(mutex_, relief_mutex_);
    stopping_.store(true, std::memory_order_relaxed);
  }
  stop_.notify_one();
  relief_stop_.notify_one();
  thread_.Join();
  relief_.Join();
}

bool Beat::BeatOnce() noexcept {
  if (options_.fence_limit != 0 && __atomic_load_n(fence_, __ATOMIC_ACQUIRE) >= options_.fence_limit) return false;
  __atomic_fetch_add(counter_, 1, __ATOMIC_RELEASE);
  beats_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// False where the thread has to end.
bool Beat::WaitUntil(uint64_t due_ns, std::unique_lock<std::mutex>* lock, std::condition_variable* stop) {
  const auto due = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(due_ns));
  return !stop->wait_until(*lock, due, [this] { return stopping_.load(std::memory_order_relaxed); });
}

void Beat::Run() {
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  uint64_t due_ns = MonotonicNs();
  std::unique_lock lock(mutex_);
  do {
    if (!BeatOnce()) {
      fenced_.store(true, std::memory_order_relaxed);
      return;
    }
    // Beats that were missed are not made up for: the counter tells life, not time.
    due_ns = std::max(due_ns + options_.interval_ns, MonotonicNs());
  } while (WaitUntil(due_ns, &lock, &stop_));
}

void Beat::Relieve() {
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  uint64_t due_ns = MonotonicNs();
  std::unique_lock lock(relief_mutex_);
  uint32_t seen = __atomic_load_n(counter_, __ATOMIC_RELAXED);
  do {
    due_ns = std::max(due_ns + kReliefIntervals * options_.interval_ns, MonotonicNs());
    if (!WaitUntil(due_ns, &lock, &relief_stop_)) return;
    const bool is_late = __atomic_load_n(counter_, __ATOMIC_RELAXED) == seen;
    if (is_late && !BeatOnce()) return;
    seen = __atomic_load_n(counter_, __ATOMIC_RELAXED);
  } while (!fenced_.load(std::memory_order_relaxed));
}

}  // namespace backdoors::memory
