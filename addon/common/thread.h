// A native thread that is always joined.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <cstdint>
#include <functional>

namespace backdoors {

class Thread {
 public:
  Thread() = default;
  ~Thread() { Join(); }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  bool is_running() const { return running_; }
  pthread_t get() const { return thread_; }

  // Returns 0 or errno. All signals stay with the threads that expect them. `stack_bytes` 0 is the system's default.
  int Start(const char* name, std::function<void()> body, size_t stack_bytes = 0) {
    body_ = std::move(body);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack_bytes != 0) pthread_attr_setstacksize(&attributes, stack_bytes);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const auto run = [](void* self) -> void* {
      static_cast<Thread*>(self)->body_();
      return nullptr;
    };
    const int error = pthread_create(&thread_, &attributes, run, this);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    if (error != 0) return error;
    running_ = true;
    // At most 15 characters, shown by ps and top.
    pthread_setname_np(thread_, name);
    return 0;
  }

  // The body must have been told to end.
  void Join() {
    if (running_) pthread_join(thread_, nullptr);
    running_ = false;
  }

 private:
  pthread_t thread_{};
  bool running_ = false;
  std::function<void()> body_;
};

}  // namespace backdoors
