#include "shared_memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>

#include "pinned_frames.h"

namespace backdoors::memory {

namespace {

// The kernel puts "memfd:" before it and takes 255 bytes altogether, the NUL among them.
constexpr size_t kMaxMemfdNameBytes = 249 - 1;

bool Check(napi_env env, bool holds, const char* field, const char* message) {
  if (!holds) ThrowInvalidArgument(env, field, message);
  return holds;
}

std::optional<SharedFileOptions> ReadOptions(napi_env env, napi_value value) {
  const Options options(env, value);
  SharedFileOptions result;
  int64_t length = 0;
  int64_t mode = result.mode;
  if (!options.Check("options") || !options.Boolean("memfd", &result.memfd) ||
      !options.String("path", result.memfd ? kMaxMemfdNameBytes : kMaxPathBytes, &result.path) ||
      !options.Boolean("create", &result.create) || !options.Integer("length", 1, kMaxSafeInteger, &length) ||
      !options.Boolean("writable", &result.writable) || !options.Boolean("hugePages", &result.huge_pages) ||
      !options.Integer("mode", 0, 0777, &mode)) {
    return std::nullopt;
  }
  result.length = static_cast<uint64_t>(length);
  result.mode = static_cast<mode_t>(mode);
  const bool is_consistent =
      Check(env, !result.path.empty(), "path", "path is needed.") &&
      Check(env, result.create || !result.memfd, "memfd", "A memfd can only be created: set create.") &&
      Check(env, result.memfd || !result.huge_pages, "hugePages", "Huge pages are for a memfd: set memfd.") &&
      Check(env, length > 0 || !result.create, "length", "length is needed to create.") &&
      Check(env, result.writable || !result.create, "writable", "What is created is writable.");
  return is_consistent ? std::optional(result) : std::nullopt;
}

std::string MemlockLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return std::to_string(limit.rlim_cur / 1024) + " KiB";
}

}  // namespace

Napi::Function SharedMemory::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {
                         InstanceAccessor<&SharedMemory::Fd>("fd"),
                         InstanceAccessor<&SharedMemory::Pages>("pages"),
                         InstanceMethod<&SharedMemory::Pin>("pin"),
                         InstanceMethod<&SharedMemory::PinFrames>("pinFrames"),
                         InstanceMethod<&SharedMemory::LockBytes>("lockBytes"),
                         InstanceMethod<&SharedMemory::UnlockBytes>("unlockBytes"),
                         InstanceMethod<&SharedMemory::IsLocked>("isLocked"),
                         InstanceMethod<&SharedMemory::Close>("close"),
                     });
}

SharedMemory::SharedMemory(const Napi::CallbackInfo& info) : Wrapped(info) {
  const napi_env env = info.Env();
  auto options = ReadOptions(env, info[0]);
  if (!options) return;
  Failure failure;
  auto file = OpenSharedFile(*options, &failure);
  if (!file) {
    failure.Throw(env);
    return;
  }
  path_ = options->path;
  fd_ = std::move(file->fd);
  mapping_ = Mapping::Map(fd_.get(), 0, file->length, file->mapped_length, options->writable);
  if (mapping_ == nullptr) {
    const std::string doing = "Mapping " + std::to_string(file->mapped_length) + " bytes of " + path_;
    Failure::Call("mmap", errno, doing, path_).Throw(env);
  } else if (Expose(env, info.This())) {
    Tag(info);
    return;
  }
  if (file->is_new_file) unlink(path_.c_str());
}

bool SharedMemory::Expose(napi_env env, napi_value self) {
  napi_value buffer = nullptr;
  if (!MakeBuffer(env, &buffer)) return false;
  buffer_ = Napi::Persistent(Napi::ArrayBuffer(env, buffer));
  napi_value length = nullptr;
  napi_value path = nullptr;
  napi_create_double(env, static_cast<double>(mapping_->length()), &length);
  napi_create_string_utf8(env, path_.data(), path_.size(), &path);
  // Constants of the object, so they are its own properties and cost nothing to look up.
  const napi_property_descriptor properties[] = {
      {"buffer", nullptr, nullptr, nullptr, nullptr, buffer, napi_enumerable, nullptr},
      {"length", nullptr, nullptr, nullptr, nullptr, length, napi_enumerable, nullptr},
      {"path", nullptr, nullptr, nullptr, nullptr, path, napi_enumerable, nullptr},
  };
  return napi_define_properties(env, self, std::size(properties), properties) == napi_ok;
}

bool SharedMemory::MakeBuffer(napi_env env, napi_value* buffer) {
  // The buffer holds the pages by itself: this object may be collected while views of the buffer are in use.
  auto* held = new std::shared_ptr<Mapping>(mapping_);
  const auto release = [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<Mapping>*>(hint); };
  const napi_status status =
      napi_create_external_arraybuffer(env, mapping_->data(), mapping_->length(), release, held, buffer);
  if (status == napi_ok) return true;
  napi_value ignored = nullptr;
  napi_get_and_clear_last_exception(env, &ignored);
  ThrowError(env, "INVALID_ARGUMENT",
             path_ + " is too large for one ArrayBuffer of this Node.js: " + std::to_string(mapping_->length()) + " bytes.",
             {.length = mapping_->length(), .path = path_, .field = "length"});
  return false;
}

void SharedMemory::CloseResource() noexcept {
  locks_.Close();
  ring_.Reset();
  fd_.Reset();
  mapping_ = nullptr;
  buffer_.Reset();
  ReleaseSelf();
}

void SharedMemory::Close(const Napi::CallbackInfo&) {
  // Views must not reach pages that may be gone: they become empty.
  if (!buffer_.IsEmpty()) buffer_.Value().Detach();
  CloseResource();
}

bool SharedMemory::CheckOpen(napi_env env) {
  if (mapping_ != nullptr) return true;
  ThrowError(env, "CLOSED", path_ + " has been closed.", {.path = path_});
  return false;
}

Napi::Value SharedMemory::Fd(const Napi::CallbackInfo& info) {
  if (!CheckOpen(info.Env())) return {};
  return Napi::Number::New(info.Env(), fd_.get());
}

Napi::Value SharedMemory::Pages(const Napi::CallbackInfo& info) {
  if (!CheckOpen(info.Env())) return {};
  return {info.Env(), LendPages(info.Env(), mapping_)};
}

Napi::Value SharedMemory::Pin(const Napi::CallbackInfo& info) {
  if (!CheckOpen(info.Env())) return {};
  if (mlock(mapping_->data(), mapping_->mapped_length()) == 0) return info.Env().Null();
  const int error = errno;
  return Napi::String::New(info.Env(), "mlock of " + std::to_string(mapping_->mapped_length()) + " bytes: " +
                                           ErrnoText(error) + "; the limit on locked memory (ulimit -l) is " +
                                           MemlockLimit());
}

Napi::Value SharedMemory::PinFrames(const Napi::CallbackInfo& info) {
  if (!CheckOpen(info.Env())) return {};
  if (ring_) return info.Env().Null();
  const char* call = "";
  const int error = memory::PinFrames(mapping_->data(), mapping_->mapped_length(), &ring_, &call);
  if (error == 0) return info.Env().Null();
  return Napi::String::New(info.Env(), std::string(call) + " of " + std::to_string(mapping_->mapped_length()) + " bytes: " +
                                           ErrnoText(error) + "; the limit on locked memory (ulimit -l) is " +
                                           MemlockLimit());
}

bool SharedMemory::ReadLockRange(const Napi::CallbackInfo& info, uint64_t* offset, uint64_t* length) {
  const auto first = ReadInteger(info.Env(), info[0], "offset", 0, kMaxSafeInteger);
  if (!first) return false;
  const auto count = ReadInteger(info.Env(), info[1], "length", 1, kMaxSafeInteger);
  if (!count || !CheckOpen(info.Env())) return false;
  *offset = static_cast<uint64_t>(*first);
  *length = static_cast<uint64_t>(*count);
  const int error = locks_.Open(fd_.get(), mapping_->writable());
  if (error != 0) Failure::Call("open", error, "Locking bytes of " + path_, path_).Throw(info.Env());
  return error == 0;
}

Napi::Value SharedMemory::LockBytes(const Napi::CallbackInfo& info) {
  uint64_t offset = 0;
  uint64_t length = 0;
  if (!ReadLockRange(info, &offset, &length)) return {};
  if (!mapping_->writable()) {
    ThrowError(info.Env(), "READ_ONLY", path_ + " was opened to be read; only its writers lock.", {.path = path_});
    return {};
  }
  const int error = locks_.Lock(offset, length);
  if (error != 0 && error != EAGAIN) {
    Failure::Call("fcntl(F_OFD_SETLK)", error, "Locking bytes of " + path_, path_).Throw(info.Env());
    return {};
  }
  // A lock is held for its effect, also by a program that keeps nothing but the buffer.
  if (error == 0) HoldSelf();
  return Napi::Boolean::New(info.Env(), error == 0);
}

void SharedMemory::UnlockBytes(const Napi::CallbackInfo& info) {
  uint64_t offset = 0;
  uint64_t length = 0;
  if (!ReadLockRange(info, &offset, &length)) return;
  const int error = locks_.Unlock(offset, length);
  if (error != 0) Failure::Call("fcntl(F_OFD_SETLK)", error, "Unlocking bytes of " + path_, path_).Throw(info.Env());
}

Napi::Value SharedMemory::IsLocked(const Napi::CallbackInfo& info) {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool locked = false;
  if (!ReadLockRange(info, &offset, &length)) return {};
  const int error = locks_.IsLockedByOthers(offset, length, &locked);
  if (error != 0) {
    Failure::Call("fcntl(F_OFD_GETLK)", error, "Looking at the locks of " + path_, path_).Throw(info.Env());
    return {};
  }
  return Napi::Boolean::New(info.Env(), locked);
}

}  // namespace backdoors::memory
