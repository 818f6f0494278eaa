#include "file_lock.h"

#include <sys/file.h>

#include <cerrno>

#include "common/arguments.h"
#include "failure.h"

namespace backdoors::memory {

namespace {

// lockFile(fd, path): false where another description of the file holds the lock. Unlike a lock on bytes (byte_locks.h), this one is
// told with its process in /proc/locks.
Napi::Value LockFile(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  const auto fd = ReadInteger(env, info[0], "fd", 0, INT32_MAX);
  if (!fd) return {};
  const auto path = ReadString(env, info[1], "path", kMaxPathBytes);
  if (!path) return {};
  int error = 0;
  do {
    error = flock(static_cast<int>(*fd), LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error != 0 && error != EWOULDBLOCK) {
    Failure::Call("flock", error, "Locking " + *path, *path).Throw(env);
    return {};
  }
  return Napi::Boolean::New(env, error == 0);
}

}  // namespace

void DefineFileLock(Napi::Env env, Napi::Object exports) {
  exports.Set("lockFile", Napi::Function::New<LockFile>(env, "lockFile"));
}

}  // namespace backdoors::memory
