// The class `BeatThread` of JavaScript.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "beat.h"
#include "common/wrapped.h"

namespace backdoors::memory {

class BeatThread : public Wrapped<BeatThread> {
 public:
  static constexpr const char* kName = "BeatThread";
  static constexpr napi_type_tag kTypeTag = {0x91f60ad3c85b4e27u, 0x8c2e47b1d96f0a34u};
  static Napi::Function Define(Napi::Env env);

  explicit BeatThread(const Napi::CallbackInfo& info);
  ~BeatThread() override { CloseResource(); }

  void CloseResource() noexcept override;

 private:
  Napi::Value Warnings(const Napi::CallbackInfo& info);
  Napi::Value Beats(const Napi::CallbackInfo& info);
  Napi::Value Fenced(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  uint64_t beats() const { return beat_ == nullptr ? beats_ : beat_->beats(); }
  bool fenced() const { return beat_ == nullptr ? fenced_ : beat_->fenced(); }

  // Null once closed, so that the pages can go.
  std::unique_ptr<Beat> beat_;
  std::vector<std::string> warnings_;
  // How it stood when it was closed.
  uint64_t beats_ = 0;
  bool fenced_ = false;
};

}  // namespace backdoors::memory
