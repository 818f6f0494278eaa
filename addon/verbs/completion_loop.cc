#include "completion_loop.h"

#include <algorithm>

#include "common/clock.h"
#include "common/error.h"
#include "work_batch.h"

namespace backdoors::verbs {

namespace {

constexpr int kMostAtOnce = 32;
constexpr uint64_t kShortestTickMs = 1;
constexpr uint64_t kLongestTickMs = 100;

}  // namespace

std::shared_ptr<CompletionLoop> CompletionLoop::Open(napi_env env, std::shared_ptr<CompletionQueue> queue) {
  std::shared_ptr<CompletionLoop> opened(new CompletionLoop(env, std::move(queue)));
  CompletionLoop* self = opened.get();
  int error = opened->readable_.Open(opened->environment(), opened->queue_->event_descriptor(),
                                     [self](int, int) { self->OnReadable(); });
  if (error == 0) error = opened->another_turn_.Open(opened->environment(), [self] { self->OnReadable(); });
  if (error == 0) error = opened->timer_.Open(opened->environment(), [self] { self->OnTick(); });
  // It stays started for good: starting and stopping it would cost two system calls for each run.
  if (error == 0) error = opened->readable_.Start(UV_READABLE);
  opened->readable_.SetKeepsAlive(false);
  opened->another_turn_.SetKeepsAlive(false);
  napi_value name = nullptr;
  napi_create_string_utf8(env, "backdoors.completions", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, nullptr, name, &opened->async_context_);
  if (error == 0) return opened;
  ThrowErrno(env, "uv_poll_start", -error, "waiting for completions on the event loop");
  return nullptr;
}

CompletionLoop::CompletionLoop(napi_env env, std::shared_ptr<CompletionQueue> queue)
    : Resource(env), env_(env), queue_(std::move(queue)) {}

CompletionLoop::~CompletionLoop() { CloseResource(); }

void CompletionLoop::CloseResource() noexcept {
  readable_.Close();
  another_turn_.Close();
  timer_.Close();
  awaited_.clear();
  if (async_context_ != nullptr) napi_async_destroy(env_, async_context_);
  async_context_ = nullptr;
}

void CompletionLoop::Await(AwaitedRun* run, uint64_t timeout_us, const std::unique_lock<std::mutex>&) {
  run->timeout_us_ = timeout_us;
  run->deadline_ns_ = MonotonicNs() + timeout_us * 1000;
  run->index_ = awaited_.size();
  awaited_.push_back(run);
  if (awaited_.size() == 1) readable_.SetKeepsAlive(true);
  KeepTicking(timeout_us);
  // Arm, poll, then sleep. What was complete before the queue was armed makes no event.
  queue_->Arm();
  queue_->Poll();
  if (queue_->HasSettled()) another_turn_.Send();
}

void CompletionLoop::SettleFinished() {
  std::unique_lock lock(queue_->mutex());
  TakeSettled();
  lock.unlock();
  Settle();
}

void CompletionLoop::OnReadable() {
  // What follows from the promises may let go of the last object that holds this one.
  const auto self = shared_from_this();
  at_once_ = kMostAtOnce;
  napi_handle_scope handles = nullptr;
  if (async_context_ == nullptr || napi_open_handle_scope(env_, &handles) != napi_ok) return;
  std::unique_lock lock(queue_->mutex());
  queue_->TakeEvent();
  queue_->Poll();
  TakeSettled();
  if (!awaited_.empty()) {
    queue_->Arm();
    queue_->Poll();
    TakeSettled();
  }
  lock.unlock();
  if (!settled_.empty()) {
    // Promises that are settled within it go on when it is closed.
    napi_callback_scope scope = nullptr;
    napi_open_callback_scope(env_, nullptr, async_context_, &scope);
    Settle();
    if (scope != nullptr) napi_close_callback_scope(env_, scope);
  }
  napi_close_handle_scope(env_, handles);
}

void CompletionLoop::OnTick() {
  if (awaited_.empty()) {
    timer_.Stop();
    tick_ms_ = 0;
    return;
  }
  const uint64_t now = MonotonicNs();
  {
    const std::lock_guard lock(queue_->mutex());
    for (AwaitedRun* run : awaited_) {
      if (run->deadline_ns_ <= now) run->awaited_batch()->TimeOut(run->timeout_us_);
    }
  }
  OnReadable();
}

void CompletionLoop::KeepTicking(uint64_t timeout_us) {
  const uint64_t tick_ms = std::clamp(timeout_us / 4000, kShortestTickMs, kLongestTickMs);
  if (tick_ms_ != 0 && tick_ms_ <= tick_ms) return;
  tick_ms_ = tick_ms;
  timer_.Start(tick_ms);
}

void CompletionLoop::TakeSettled() {
  while (WorkBatch* batch = queue_->TakeSettled()) settled_.push_back(static_cast<AwaitedRun*>(batch->object));
}

void CompletionLoop::Settle() {
  for (size_t next = 0; next < settled_.size(); ++next) {
    Remove(settled_[next]);
    settled_[next]->Settled();
  }
  settled_.clear();
}

void CompletionLoop::Remove(AwaitedRun* run) {
  awaited_[run->index_] = awaited_.back();
  awaited_[run->index_]->index_ = run->index_;
  awaited_.pop_back();
  if (awaited_.empty()) readable_.SetKeepsAlive(false);
}

}  // namespace backdoors::verbs
