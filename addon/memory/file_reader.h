// The class `FileReader` of JavaScript.
#pragma once

#include <memory>
#include <vector>

#include "common/wrapped.h"
#include "helper_thread.h"
#include "open_file.h"
#include "summed_read.h"

namespace backdoors::memory {

class FileReader : public Wrapped<FileReader> {
 public:
  static constexpr const char* kName = "FileReader";
  static constexpr napi_type_tag kTypeTag = {0xc2a95b1de8704d36u, 0xb1f3a02c7d4e985fu};
  static Napi::Function Define(Napi::Env env);

  explicit FileReader(const Napi::CallbackInfo& info);
  ~FileReader() override { CloseResource(); }

  // Null once closed. A sampler goes on holding the file, and sees that it has been closed.
  const std::shared_ptr<OpenFile>& file() const { return file_; }

  void CloseResource() noexcept override;

 private:
  bool CheckOpen(napi_env env);
  bool ReadParts(const Napi::CallbackInfo& info, uint8_t** target);
  bool ReadSums(const Napi::CallbackInfo& info, uint8_t** target, PartSums* sums);
  bool ReadWordOffset(const Napi::CallbackInfo& info, uint64_t* offset);
  void ThrowFailed(napi_env env, const char* call, int error, const char* doing, uint64_t offset, uint64_t length);

  Napi::Value Path(const Napi::CallbackInfo& info);
  Napi::Value Writable(const Napi::CallbackInfo& info);
  Napi::Value Length(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value ReadSummed(const Napi::CallbackInfo& info);
  void BeginSummed(const Napi::CallbackInfo& info);
  Napi::Value EndSummed(const Napi::CallbackInfo& info);
  void Write(const Napi::CallbackInfo& info);
  Napi::Value CompareAndSwap(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  std::string path_;
  std::shared_ptr<OpenFile> file_;
  // Of the read under way; kept, so that a read allocates nothing.
  std::vector<FilePart> parts_;
  // Between beginSummed and endSummed, with what it writes to: held, so that it is not collected. The caller must not detach, transfer or
  // resize its buffers until endSummed or close has returned: the helper writes to where they were when the read was begun.
  std::unique_ptr<SummedRead> summed_;
  Napi::Reference<Napi::Value> target_;
  Napi::Reference<Napi::Value> crcs_;
  HelperThread helper_;
};

// Reads [offset, length, …] groups of `stride` doubles; false after throwing INVALID_ARGUMENT, where a number is not
// a whole one within 2^53 or there are fewer than `count` groups.
bool CheckGroups(napi_env env, std::span<const double> doubles, size_t stride, size_t count, const char* name);

}  // namespace backdoors::memory
