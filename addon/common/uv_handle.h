// Handles of the environment's own event loop. libuv closes a handle later than it is asked to, so the handle lives
// by itself and its owner may go first; the environment waits for it.
#pragma once

#include <uv.h>

#include <functional>
#include <utility>

#include "environment.h"

namespace backdoors {

// `Handle` is a libuv handle type. Used on the event loop's thread only, but for AsyncHandle::Send.
template <typename Handle>
class UvHandle {
 public:
  UvHandle() = default;
  ~UvHandle() { Close(); }
  UvHandle(const UvHandle&) = delete;
  UvHandle& operator=(const UvHandle&) = delete;

  bool is_open() const { return handle_ != nullptr; }

  // Whether the event loop, and with it the process, is kept going for this handle.
  void SetKeepsAlive(bool keeps) {
    if (handle_ == nullptr) return;
    auto* handle = reinterpret_cast<uv_handle_t*>(&handle_->handle);
    keeps ? uv_ref(handle) : uv_unref(handle);
  }

  // Idempotent. The callback does not run again.
  void Close() {
    if (handle_ == nullptr) return;
    Owned* owned = std::exchange(handle_, nullptr);
    owned->callback = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&owned->handle), [](uv_handle_t* handle) {
      auto* closed = static_cast<Owned*>(handle->data);
      Environment* environment = closed->environment;
      delete closed;
      environment->HandleClosed();
    });
  }

 protected:
  // The handle as libuv sees it, with what its callback needs.
  struct Owned {
    Handle handle;
    Environment* environment;
    std::function<void(int status, int events)> callback;

    void Run(int status, int events) {
      // A copy, because the callback may close the handle.
      if (const auto run = callback) run(status, events);
    }
  };

  // `init` is given the loop and the handle, and returns 0 or libuv's error.
  template <typename Init>
  int Open(Environment* environment, std::function<void(int, int)> callback, Init init) {
    auto* owned = new Owned{{}, environment, std::move(callback)};
    const int error = init(environment->loop(), &owned->handle);
    if (error != 0) {
      delete owned;
      return error;
    }
    owned->handle.data = owned;
    environment->HandleOpened();
    handle_ = owned;
    return 0;
  }

  Owned* handle_ = nullptr;
};

// Wakes the event loop from another thread.
class AsyncHandle : public UvHandle<uv_async_t> {
 public:
  // Returns 0 or libuv's error.
  int Open(Environment* environment, std::function<void()> callback) {
    return UvHandle::Open(
        environment, [run = std::move(callback)](int, int) { run(); },
        [](uv_loop_t* loop, uv_async_t* handle) {
          return uv_async_init(loop, handle, [](uv_async_t* async) { static_cast<Owned*>(async->data)->Run(0, 0); });
        });
  }

  // Of any thread, between Open and Close; several calls may become one callback.
  void Send() { uv_async_send(&handle_->handle); }
};

// Says on the event loop when a file descriptor can be read or written.
class PollHandle : public UvHandle<uv_poll_t> {
 public:
  // The descriptor stays its owner's, and must stay open until Close. Returns 0 or libuv's error.
  int Open(Environment* environment, int fd, std::function<void(int status, int events)> callback) {
    return UvHandle::Open(environment, std::move(callback), [fd](uv_loop_t* loop, uv_poll_t* handle) {
      return uv_poll_init(loop, handle, fd);
    });
  }

  // `events` is a sum of UV_READABLE and so on. Returns 0 or libuv's error.
  int Start(int events) {
    return uv_poll_start(&handle_->handle, events, [](uv_poll_t* poll, int status, int seen) {
      static_cast<Owned*>(poll->data)->Run(status, seen);
    });
  }

  void Stop() {
    if (handle_ != nullptr) uv_poll_stop(&handle_->handle);
  }
};

// Runs something once, later, on the event loop.
class TimerHandle : public UvHandle<uv_timer_t> {
 public:
  // Returns 0 or libuv's error.
  int Open(Environment* environment, std::function<void()> callback) {
    return UvHandle::Open(
        environment, [run = std::move(callback)](int, int) { run(); },
        [](uv_loop_t* loop, uv_timer_t* handle) { return uv_timer_init(loop, handle); });
  }

  // Returns 0 or libuv's error.
  int Start(uint64_t after_ms) {
    return uv_timer_start(&handle_->handle, [](uv_timer_t* timer) { static_cast<Owned*>(timer->data)->Run(0, 0); }, after_ms, 0);
  }
};

}  // namespace backdoors
