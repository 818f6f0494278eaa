// A thread that advances a counter in shared memory at a steady pace: the sign of life of the machine itself.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/mapping.h"
#include "common/thread.h"

namespace backdoors::memory {

struct BeatOptions {
  std::shared_ptr<Mapping> pages;
  // Of 4-byte words within the pages, aligned.
  size_t counter_offset;
  size_t fence_offset;
  // The fence word that stops the beat; 0 = never.
  uint32_t fence_limit;
  uint64_t interval_ns;
};

// A kernel that cannot be preempted keeps even a thread of real-time priority waiting, for milliseconds at times, while it is at work
// on that thread's processor. So a second one, on a processor of its own, looks whether the first still beats, and beats where it
// does not: the machine is dead when no processor of it runs anything.
class Beat {
 public:
  explicit Beat(BeatOptions options);
  ~Beat() { Stop(); }
  Beat(const Beat&) = delete;
  Beat& operator=(const Beat&) = delete;

  // Returns 0 or errno. What was not permitted is added to `warnings`, in words fit for a log.
  int Start(std::vector<std::string>* warnings);
  // Joins the threads. Idempotent.
  void Stop();

  uint64_t beats() const { return beats_.load(std::memory_order_relaxed); }
  bool fenced() const { return fenced_.load(std::memory_order_relaxed); }

  // Advances the counter once; false where the fence forbids it. Of the threads only, but for measurements.
  bool BeatOnce() noexcept;

 private:
  void Run();
  void Relieve();
  void StartRelief();
  bool WaitUntil(uint64_t due_ns, std::unique_lock<std::mutex>* lock, std::condition_variable* stop);
  void LockPages(std::vector<std::string>* warnings);

  const BeatOptions options_;
  uint32_t* const counter_;
  const uint32_t* const fence_;
  std::atomic<uint64_t> beats_{0};
  std::atomic<bool> fenced_{false};

  // Each thread has a lock of its own, so that neither ever waits for the other.
  std::mutex mutex_;
  std::condition_variable stop_;
  std::mutex relief_mutex_;
  std::condition_variable relief_stop_;
  std::atomic<bool> stopping_{false};
  Thread thread_;
  Thread relief_;
};

}  // namespace backdoors::memory
