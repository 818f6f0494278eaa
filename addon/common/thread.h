// A native thread that is always joined.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <cerrno>
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

  // Returns 0 or errno. All signals stay with the threads that expect them, but those that an access of this
  // thread's own raises: a blocked one would end the process. `stack_bytes` 0 is the system's default.
  int Start(const char* name, std::function<void()> body, size_t stack_bytes = 0) {
    body_ = std::move(body);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (stack_bytes != 0) pthread_attr_setstacksize(&attributes, stack_bytes);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    for (const int own : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) sigdelset(&all, own);
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

  // Above all ordinary threads, and below the kernel's own real-time threads (50). Returns 0 or errno.
  int SetRealTime() {
    sched_param parameters{};
    parameters.sched_priority = 10;
    return pthread_setschedparam(thread_, SCHED_FIFO, &parameters);
  }

  // Runs on this processor alone from now on. Returns 0 or errno: EINVAL where there is no such processor for us.
  int PinTo(int cpu) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) return EINVAL;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return pthread_setaffinity_np(thread_, sizeof set, &set);
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
