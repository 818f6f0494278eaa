// The class `SharedMemory` of JavaScript.
#pragma once

#include <memory>
#include <string>

#include "byte_locks.h"
#include "common/file_descriptor.h"
#include "common/mapping.h"
#include "common/wrapped.h"
#include "shared_file.h"

namespace backdoors::memory {

class SharedMemory : public Wrapped<SharedMemory> {
 public:
  static constexpr const char* kName = "SharedMemory";
  static constexpr napi_type_tag kTypeTag = {0x3d1c7f0ab5e24f7eu, 0x8a6694b1d05ec213u};
  static Napi::Function Define(Napi::Env env);

  explicit SharedMemory(const Napi::CallbackInfo& info);
  ~SharedMemory() override { CloseResource(); }

  void CloseResource() noexcept override;

 private:
  bool Expose(napi_env env, napi_value self);
  bool MakeBuffer(napi_env env, napi_value* buffer);
  bool CheckOpen(napi_env env);
  bool ReadLockRange(const Napi::CallbackInfo& info, uint64_t* offset, uint64_t* length);

  Napi::Value Fd(const Napi::CallbackInfo& info);
  Napi::Value Pages(const Napi::CallbackInfo& info);
  Napi::Value Pin(const Napi::CallbackInfo& info);
  Napi::Value PinFrames(const Napi::CallbackInfo& info);
  Napi::Value LockBytes(const Napi::CallbackInfo& info);
  void UnlockBytes(const Napi::CallbackInfo& info);
  Napi::Value IsLocked(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  std::string path_;
  FileDescriptor fd_;
  ByteLocks locks_;
  // Open while the pages are pinned to their frames.
  FileDescriptor ring_;
  // Null once closed.
  std::shared_ptr<Mapping> mapping_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

}  // namespace backdoors::memory
