// A reliable connected (RC) queue pair, and the bookkeeping of what is outstanding on it.
//
// Its first failure that is not a flush is its cause of death: every batch under way fails by it at once, and so
// does every later one. The buffers of those batches stay the device's until their requests are flushed or the queue
// pair is destroyed.
#pragma once

#include <infiniband/verbs.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "completion_queue.h"
#include "protection_domain.h"

namespace backdoors::verbs {

class WorkBatch;

// Memory of the peer that requests may name.
struct Window {
  uint64_t offset;
  uint64_t length;
  uint64_t address;
  uint32_t rkey;
  bool writable;
  bool atomic;
};

// As `QueuePairOptions` in src/native/verbs.ts.
struct QueuePairOptions {
  std::string peer;
  uint32_t depth;
  uint8_t port;
  uint8_t gid_index;
  uint16_t pkey_index;
  uint32_t access;
  uint32_t psn;
  uint8_t timeout;
  uint8_t retry_count;
  uint8_t rnr_retry;
  uint8_t min_rnr_timer;
  uint8_t traffic_class;
  uint8_t hop_limit;
  uint8_t service_level;
};

// As `QueuePairConnection` there.
struct QueuePairConnection {
  uint32_t qpn;
  uint32_t psn;
  ibv_gid gid;
  uint16_t lid;
  uint32_t mtu;
  uint8_t max_rd_atomic;
  uint8_t max_dest_rd_atomic;
};

class QueuePair : public std::enable_shared_from_this<QueuePair> {
 public:
  // Makes the queue pair and brings it to INIT. The queue pair ends with the last copy of the pointer returned, though
  // batches under way, which hold it by pointers of their own, may be destroyed only by that end.
  static std::shared_ptr<QueuePair> Create(std::shared_ptr<ProtectionDomain> domain,
                                           std::shared_ptr<CompletionQueue> queue, QueuePairOptions options,
                                           Failure* failure);
  ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  // INIT → RTR → RTS.
  bool Connect(const QueuePairConnection& remote, Failure* failure);
  // Destroys the verbs object; everything under way fails with CLOSED. Idempotent; from any thread.
  void End();

  CompletionQueue& queue() const { return *queue_; }
  const QueuePairOptions& options() const { return options_; }
  uint32_t number() const { return number_; }
  ibv_qp_state QueryState();
  void SetWindows(std::vector<Window> windows);

  // All below are called with the queue's mutex held.

  bool closed() const { return pair_ == nullptr; }
  const std::vector<Window>& windows() const { return windows_; }
  // Why nothing can be posted, or null while it can.
  const Failure* failure() const { return failure_.get(); }
  // Posts what the batch has left and the depth allows; the rest follows as earlier requests complete.
  void Post(WorkBatch* batch);
  // Forgets a batch that the device is done with.
  void Release(WorkBatch* batch);
  static void Complete(const ibv_wc& completion);

 private:
  QueuePair(std::shared_ptr<ProtectionDomain> domain, std::shared_ptr<CompletionQueue> queue, QueuePairOptions options,
            ibv_qp* pair)
      : domain_(std::move(domain)),
        queue_(std::move(queue)),
        options_(std::move(options)),
        pair_(pair),
        number_(pair->qp_num),
        free_requests_(options_.depth) {}

  bool Initialize(Failure* failure);
  bool PostSegment(WorkBatch* batch);
  void PostWaiting();
  void CompleteBatch(WorkBatch* batch, uint32_t index, const ibv_wc& completion);
  // Every batch under way fails.
  void Fail(Failure failure);

  std::shared_ptr<ProtectionDomain> domain_;
  std::shared_ptr<CompletionQueue> queue_;
  const QueuePairOptions options_;
  ibv_qp* pair_;
  const uint32_t number_;
  uint32_t free_requests_;
  std::vector<Window> windows_;
  std::unique_ptr<Failure> failure_;
  // Busy batches, kept alive by themselves for as long as they are in it.
  WorkBatch* busy_ = nullptr;
  // Batches with requests that did not fit in the queue, in the order of their turn.
  WorkBatch* waiting_ = nullptr;
  WorkBatch* last_waiting_ = nullptr;
};

}  // namespace backdoors::verbs
