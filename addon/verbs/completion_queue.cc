#include "completion_queue.h"

#include <fcntl.h>

#include <cerrno>
#include <thread>

#include "queue_pair.h"
#include "work_batch.h"

namespace backdoors::verbs {

std::shared_ptr<CompletionQueue> CompletionQueue::Create(std::shared_ptr<Context> context, int depth,
                                                         Failure* failure) {
  ibv_comp_channel* channel = ibv_create_comp_channel(context->get());
  if (channel == nullptr) {
    *failure = CallFailed("ibv_create_comp_channel", errno, "creating a completion channel on " + context->name());
    return nullptr;
  }
  if (fcntl(channel->fd, F_SETFL, fcntl(channel->fd, F_GETFL) | O_NONBLOCK) != 0) {
    *failure = CallFailed("fcntl", errno, "making a completion channel non-blocking");
    ibv_destroy_comp_channel(channel);
    return nullptr;
  }
  ibv_cq* queue = ibv_create_cq(context->get(), depth, nullptr, channel, 0);
  if (queue == nullptr) {
    *failure = CallFailed("ibv_create_cq", errno, "creating a completion queue of " + std::to_string(depth));
    ibv_destroy_comp_channel(channel);
    return nullptr;
  }
  return std::shared_ptr<CompletionQueue>(new CompletionQueue(std::move(context), channel, queue));
}

// Every event was acknowledged when it was taken; an unacknowledged one would make ibv_destroy_cq wait for ever.
CompletionQueue::~CompletionQueue() {
  ibv_destroy_cq(queue_);
  ibv_destroy_comp_channel(channel_);
}

bool CompletionQueue::Reserve(int entries) {
  if (entries > queue_->cqe - reserved_) return false;
  reserved_ += entries;
  return true;
}

void CompletionQueue::Poll() {
  constexpr int kAtOnce = 16;
  ibv_wc completions[kAtOnce];
  int count;
  do {
    count = ibv_poll_cq(queue_, kAtOnce, completions);
    for (int index = 0; index < count; ++index) QueuePair::Complete(completions[index]);
  } while (count == kAtOnce);
}

void CompletionQueue::GiveWay(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  while (wanted_.load(std::memory_order_relaxed) > 0) std::this_thread::yield();
  lock.lock();
}

int CompletionQueue::Arm() {
  if (armed_) return 0;
  const int error = ibv_req_notify_cq(queue_, 0);
  armed_ = error == 0;
  return error;
}

void CompletionQueue::TakeEvent() {
  ibv_cq* queue;
  void* unused;
  if (ibv_get_cq_event(channel_, &queue, &unused) != 0) return;
  ibv_ack_cq_events(queue, 1);
  armed_ = false;
}

void CompletionQueue::Settle(WorkBatch* batch) {
  batch->next_settled = nullptr;
  if (settled_ == nullptr) {
    settled_ = batch;
  } else {
    last_settled_->next_settled = batch;
  }
  last_settled_ = batch;
}

WorkBatch* CompletionQueue::TakeSettled() {
  WorkBatch* batch = settled_;
  if (batch != nullptr) settled_ = batch->next_settled;
  return batch;
}

}  // namespace backdoors::verbs
