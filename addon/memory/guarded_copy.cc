#include "guarded_copy.h"

#include <ucontext.h>

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <mutex>

#include "crc32c.h"

namespace backdoors::memory {

namespace {

// What this thread copies from, and where it goes on if that is not there.
struct Attempt {
  const uint8_t* source;
  size_t length;
  sigjmp_buf* back;
};
thread_local volatile Attempt* attempt = nullptr;

std::mutex mutex;
size_t guards = 0;
struct sigaction before;

// Whatever is not one of our copies is for whoever handled SIGBUS before; by default that ends the process, as it would have.
void PassOn(int signal, siginfo_t* info, void* context) {
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    // The access is made again when this returns, and then ends the process.
    std::signal(signal, SIG_DFL);
  }
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  volatile Attempt* mine = attempt;
  const auto* at = static_cast<const uint8_t*>(info->si_addr);
  // The address may be that of the page, which can begin before the source does.
  constexpr size_t kMostPageBytes = size_t{1} << 30;
  const bool is_ours = mine != nullptr && at < mine->source + mine->length && mine->source - at < static_cast<ptrdiff_t>(kMostPageBytes);
  if (!is_ours) return PassOn(signal, info, context);
  attempt = nullptr;
  // A jump leaves the handler's mask of signals in force, in which SIGBUS is blocked, and the next one would end the process. What
  // was in force before is put back here, and not saved at every attempt, which would take a system call each.
  pthread_sigmask(SIG_SETMASK, &static_cast<ucontext_t*>(context)->uc_sigmask, nullptr);
  siglongjmp(*const_cast<sigjmp_buf*>(mine->back), 1);
}

}  // namespace

CopyGuard::CopyGuard() {
  const std::lock_guard lock(mutex);
  if (guards++ > 0) return;
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGBUS, &action, &before);
}

CopyGuard::~CopyGuard() {
  const std::lock_guard lock(mutex);
  if (--guards == 0) sigaction(SIGBUS, &before, nullptr);
}

namespace {

// Whether `access`, which reads the `length` bytes from `source` on, came to its end.
template <typename Access>
bool Attempted(const uint8_t* source, size_t length, const Access& access) {
  sigjmp_buf back;
  volatile Attempt mine = {source, length, &back};
  if (sigsetjmp(back, 0) != 0) return false;
  attempt = &mine;
  // The compiler must not move the access out of the attempt.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  access();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  attempt = nullptr;
  return true;
}

}  // namespace

bool CopyGuard::Copy(uint8_t* target, const uint8_t* source, size_t length) const {
  return Attempted(source, length, [=] { std::memcpy(target, source, length); });
}

bool CopyGuard::CopySummed(uint8_t* target, const uint8_t* source, size_t length, size_t skipped, uint32_t* crc,
                           FetchAhead* ahead) const {
  return Attempted(source, length, [=] {
    std::memcpy(target, source, skipped);
    ahead->Advance(skipped);
    *crc = CopyCrc32c(*crc, target + skipped, source + skipped, length - skipped, ahead);
  });
}

}  // namespace backdoors::memory
