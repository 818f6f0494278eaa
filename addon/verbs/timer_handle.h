// A timer of the environment's event loop. It never keeps the loop going.
#pragma once

#include "common/uv_handle.h"

namespace backdoors::verbs {

class TimerHandle : public UvHandle<uv_timer_t> {
 public:
  // Returns 0 or libuv's error.
  int Open(Environment* environment, std::function<void()> callback) {
    const int error = UvHandle::Open(
        environment, [run = std::move(callback)](int, int) { run(); },
        [](uv_loop_t* loop, uv_timer_t* handle) { return uv_timer_init(loop, handle); });
    SetKeepsAlive(false);
    return error;
  }

  // Runs the callback every `period_ms` from now on.
  void Start(uint64_t period_ms) {
    if (handle_ == nullptr) return;
    uv_timer_start(
        &handle_->handle, [](uv_timer_t* timer) { static_cast<Owned*>(timer->data)->Run(0, 0); }, period_ms, period_ms);
  }

  void Stop() {
    if (handle_ != nullptr) uv_timer_stop(&handle_->handle);
  }
};

}  // namespace backdoors::verbs
