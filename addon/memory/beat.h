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

class Beat {
 public:
  explicit Beat(BeatOptions options);
  ~Beat() { Stop(); }
  Beat(const Beat&) = delete;
  Beat& operator=(const Beat&) = delete;

  // Returns 0 or errno. What was not permitted is added to `warnings`, in words fit for a log.
  int Start(std::vector<std::string>* warnings);
  // Joins the thread. Idempotent.
  void Stop();

  uint64_t beats() const { return beats_.load(std::memory_order_relaxed); }
  bool fenced() const { return fenced_.load(std::memory_order_relaxed); }

  // Advances the counter once; false where the fence forbids it. Of the thread only, but for measurements.
  bool BeatOnce() noexcept;

 private:
  void Run();
  void LockPages(std::vector<std::string>* warnings);

  const BeatOptions options_;
  uint32_t* const counter_;
  const uint32_t* const fence_;
  std::atomic<uint64_t> beats_{0};
  std::atomic<bool> fenced_{false};

  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  Thread thread_;
};

}  // namespace backdoors::memory
