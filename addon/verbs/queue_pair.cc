#include "queue_pair.h"

#include <cerrno>
#include <utility>

#include "wc_status.h"
#include "work_batch.h"

namespace backdoors::verbs {

namespace {

Failure FailureOf(const Request& request, const ibv_wc& completion, const QueuePair& pair) {
  const ibv_send_wr& wr = request.wr;
  const bool atomic = wr.opcode == IBV_WR_ATOMIC_CMP_AND_SWP || wr.opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
  Failure failure;
  failure.code = StatusName(completion.status);
  failure.details.peer = pair.options().peer;
  failure.details.offset = request.offset;
  failure.details.length = request.entry.length;
  failure.details.address = atomic ? wr.wr.atomic.remote_addr : wr.wr.rdma.remote_addr;
  failure.details.vendor_error = completion.vendor_err;
  failure.details.queue_pair = pair.number();
  failure.message = std::string(OpcodeName(wr.opcode)) + " of " + std::to_string(request.entry.length) +
                    " bytes at offset " + std::to_string(request.offset) + " of " + pair.options().peer +
                    "'s memory: " + StatusMeaning(completion.status) + " (vendor error " +
                    std::to_string(completion.vendor_err) + "). This ended the queue pair: connect anew";
  return failure;
}

// Ends a queue pair that nobody can use any more, though its own batches still point at it.
struct Owner {
  explicit Owner(std::shared_ptr<QueuePair> owned) : pair(std::move(owned)) {}
  ~Owner() { pair->End(); }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  std::shared_ptr<QueuePair> pair;
};

}  // namespace

std::shared_ptr<QueuePair> QueuePair::Create(std::shared_ptr<ProtectionDomain> domain,
                                             std::shared_ptr<CompletionQueue> queue, QueuePairOptions options,
                                             Failure* failure) {
  {
    const std::lock_guard lock(queue->mutex());
    if (!queue->Reserve(static_cast<int>(options.depth))) {
      failure->code = "QUEUE_FULL";
      failure->message = "the completion queue has no room for a queue pair of depth " + std::to_string(options.depth);
      return nullptr;
    }
  }
  ibv_qp_init_attr attributes{};
  attributes.send_cq = queue->get();
  attributes.recv_cq = queue->get();
  attributes.qp_type = IBV_QPT_RC;
  attributes.cap.max_send_wr = options.depth;
  attributes.cap.max_recv_wr = 1;
  attributes.cap.max_send_sge = 1;
  attributes.cap.max_recv_sge = 1;
  ibv_qp* pair = ibv_create_qp(domain->get(), &attributes);
  if (pair == nullptr) {
    *failure = CallFailed("ibv_create_qp", errno, "creating a queue pair of depth " + std::to_string(options.depth));
    const std::lock_guard lock(queue->mutex());
    queue->Unreserve(static_cast<int>(options.depth));
    return nullptr;
  }
  std::shared_ptr<QueuePair> created(new QueuePair(std::move(domain), std::move(queue), std::move(options), pair));
  if (!created->Initialize(failure)) return nullptr;
  const auto owner = std::make_shared<Owner>(created);
  return std::shared_ptr<QueuePair>(owner, created.get());
}

QueuePair::~QueuePair() { End(); }

void QueuePair::End() {
  std::vector<std::shared_ptr<WorkBatch>> released;
  {
    const std::lock_guard lock(queue_->mutex());
    if (pair_ == nullptr) return;
    Failure closed;
    closed.code = "CLOSED";
    closed.details.peer = options_.peer;
    closed.details.queue_pair = number_;
    closed.message = "the queue pair to " + options_.peer + " is closed";
    Fail(closed);
    *failure_ = closed;
    ibv_destroy_qp(pair_);
    pair_ = nullptr;
    // Some providers leave the completions of a destroyed queue pair in the queue. They name its batches, so they
    // have to go while those still exist.
    queue_->Poll();
    while (busy_ != nullptr) {
      released.push_back(busy_->self_);
      Release(busy_);
    }
    queue_->Unreserve(static_cast<int>(options_.depth));
  }
}

ibv_qp_state QueuePair::QueryState() {
  const std::lock_guard lock(queue_->mutex());
  ibv_qp_attr attributes{};
  ibv_qp_init_attr initial{};
  if (pair_ == nullptr || ibv_query_qp(pair_, &attributes, IBV_QP_STATE, &initial) != 0) return IBV_QPS_UNKNOWN;
  return attributes.qp_state;
}

void QueuePair::SetWindows(std::vector<Window> windows) {
  const std::lock_guard lock(queue_->mutex());
  windows_ = std::move(windows);
}

void QueuePair::Post(WorkBatch* batch) {
  batch->busy_ = true;
  if (batch->self_ == nullptr) batch->self_ = batch->shared_from_this();
  batch->previous_busy_ = nullptr;
  batch->next_busy_ = busy_;
  if (busy_ != nullptr) busy_->previous_busy_ = batch;
  busy_ = batch;
  // Nobody overtakes those who already wait for room.
  if (waiting_ == nullptr && PostSegment(batch)) return;
  if (batch->progress != WorkBatch::Progress::kPending) return;
  batch->next_waiting_ = nullptr;
  (waiting_ == nullptr ? waiting_ : last_waiting_->next_waiting_) = batch;
  last_waiting_ = batch;
}

// True once all of the batch has been posted.
bool QueuePair::PostSegment(WorkBatch* batch) {
  while (batch->posted_ < batch->count_) {
    const uint32_t left = batch->count_ - batch->posted_;
    const uint32_t length = left < batch->segment_ ? left : batch->segment_;
    if (length > free_requests_) return false;
    ibv_send_wr* bad = nullptr;
    const int error = ibv_post_send(pair_, &batch->requests_[batch->posted_].wr, &bad);
    if (error != 0) {
      // What was posted before the bad one is not signaled. In ERR state all of it completes, as flushed.
      const auto* refused = reinterpret_cast<Request*>(bad->wr_id);
      const auto accepted = static_cast<uint32_t>(refused - &batch->requests_[batch->posted_]);
      batch->posted_ += accepted;
      free_requests_ -= accepted;
      Failure failure = CallFailed("ibv_post_send", error, "posting to the queue pair to " + options_.peer);
      failure.details.peer = options_.peer;
      failure.details.queue_pair = number_;
      ibv_qp_attr attributes{};
      attributes.qp_state = IBV_QPS_ERR;
      ibv_modify_qp(pair_, &attributes, IBV_QP_STATE);
      Fail(std::move(failure));
      return false;
    }
    batch->posted_ += length;
    free_requests_ -= length;
  }
  return true;
}

void QueuePair::PostWaiting() {
  while (waiting_ != nullptr && PostSegment(waiting_)) waiting_ = waiting_->next_waiting_;
}

void QueuePair::Release(WorkBatch* batch) {
  if (!batch->busy_) return;
  batch->busy_ = false;
  if (batch->next_busy_ != nullptr) batch->next_busy_->previous_busy_ = batch->previous_busy_;
  (batch->previous_busy_ == nullptr ? busy_ : batch->previous_busy_->next_busy_) = batch->next_busy_;
  // The last thing done with it: this may be its end.
  if (batch->retired_) batch->self_.reset();
}

void QueuePair::Complete(const ibv_wc& completion) {
  auto* request = reinterpret_cast<Request*>(completion.wr_id);
  WorkBatch* batch = request->batch;
  batch->pair_->CompleteBatch(batch, static_cast<uint32_t>(request - batch->requests_.data()), completion);
}

void QueuePair::CompleteBatch(WorkBatch* batch, uint32_t index, const ibv_wc& completion) {
  if (completion.status != IBV_WC_SUCCESS) {
    Fail(FailureOf(batch->requests_[index], completion, *this));
  }
  // Requests complete in order, so those before a signaled one are done as well.
  free_requests_ += index + 1 - batch->completed_;
  batch->completed_ = index + 1;
  if (batch->completed_ == batch->count_ && completion.status == IBV_WC_SUCCESS) {
    batch->Finish(WorkBatch::Progress::kDone);
  }
  const bool over = batch->completed_ == batch->posted_ && (batch->posted_ == batch->count_ || failure_ != nullptr);
  if (failure_ == nullptr) PostWaiting();
  if (over) Release(batch);
}

void QueuePair::Fail(Failure failure) {
  // Flushes are consequences. Only the first thing that happened says why.
  if (failure_ == nullptr) failure_ = std::make_unique<Failure>(std::move(failure));
  waiting_ = nullptr;
  for (WorkBatch *batch = busy_, *next = nullptr; batch != nullptr; batch = next) {
    next = batch->next_busy_;
    if (batch->progress == WorkBatch::Progress::kPending) {
      batch->failure = *failure_;
      batch->Finish(WorkBatch::Progress::kFailed);
    }
    // Of these the device has nothing (any more).
    if (batch->completed_ == batch->posted_) Release(batch);
  }
}

}  // namespace backdoors::verbs
