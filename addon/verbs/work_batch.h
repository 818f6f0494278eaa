// Work requests that are built once and posted many times, under one doorbell where the queue's depth allows.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "failure.h"
#include "memory_region.h"
#include "queue_pair.h"

namespace backdoors::verbs {

// One work request with its scatter entry. `wr.wr_id` is its own address: with the status it is all that a failed
// completion tells reliably.
struct Request {
  ibv_send_wr wr;
  ibv_sge entry;
  WorkBatch* batch;
  // Offset into the peer's memory, for errors.
  uint64_t offset;
};

// One row as JavaScript gives it.
struct RequestRow {
  double window;
  double offset;
  double local_offset;
  double length;
};

class WorkBatch : public std::enable_shared_from_this<WorkBatch> {
 public:
  enum class Progress : uint8_t { kIdle, kPending, kDone, kFailed };

  WorkBatch(QueuePair* pair, std::shared_ptr<MemoryRegion> region, uint32_t capacity);
  WorkBatch(const WorkBatch&) = delete;
  WorkBatch& operator=(const WorkBatch&) = delete;

  QueuePair& pair() const { return *pair_; }
  MemoryRegion& region() const { return *region_; }
  uint32_t capacity() const { return static_cast<uint32_t>(requests_.size()); }

  // All below are called with the mutex of the pair's completion queue held.

  // The offset in the peer's memory of the byte that a read puts at `position` of the region; UINT64_MAX if none does.
  uint64_t OffsetAt(size_t position) const;
  uint32_t count() const { return count_; }

  bool Prepare(ibv_wr_opcode opcode, const RequestRow* rows, uint32_t count, Failure* failure);
  bool PrepareAtomic(ibv_wr_opcode opcode, const RequestRow& row, uint64_t compare_or_add, uint64_t swap,
                     Failure* failure);
  // False, and `failure` says why, if nothing was posted.
  bool Start(Failure* failure);
  // The event loop is to hear of the end of the run that was just started, even if that has come already.
  void Await();
  // The run has taken too long. The device may still write into the buffers, so the batch stays busy.
  void TimeOut(uint64_t timeout_us);
  // Whoever made it will not run it again: it goes as soon as it is not busy, and nobody else holds it.
  void Retire();
  // Ends the run as done or failed; the event loop hears of it if it waits.
  void Finish(Progress progress);
  bool busy() const { return busy_; }

  Progress progress = Progress::kIdle;
  // Why the run failed.
  Failure failure;
  // Who waits for it; the event loop's own.
  void* object = nullptr;
  WorkBatch* next_settled = nullptr;

 private:
  friend class QueuePair;

  struct Verdict {
    const char* code;
    const char* why;
  };

  bool CheckIdle(Failure* failure) const;
  Verdict Judge(ibv_wr_opcode opcode, const RequestRow& row) const;
  bool CheckRow(ibv_wr_opcode opcode, const RequestRow& row, Failure* failure) const;
  void Fill(Request* request, ibv_wr_opcode opcode, const RequestRow& row);
  void Link(uint32_t count);

  std::shared_ptr<QueuePair> pair_;
  std::shared_ptr<MemoryRegion> region_;
  std::vector<Request> requests_;
  uint32_t count_ = 0;
  // Requests under one doorbell; the last of each such segment is signaled.
  uint32_t segment_ = 0;

  bool awaited_ = false;
  bool busy_ = false;
  uint32_t posted_ = 0;
  uint32_t completed_ = 0;
  WorkBatch* next_waiting_ = nullptr;
  WorkBatch* next_busy_ = nullptr;
  WorkBatch* previous_busy_ = nullptr;
  // Itself, from its first run on: while busy it must not go, for the device writes into its buffers, whoever has
  // forgotten it. It is not reset after each run, because counting references would be a good part of a run's cost.
  std::shared_ptr<WorkBatch> self_;
  bool retired_ = false;
};

}  // namespace backdoors::verbs
