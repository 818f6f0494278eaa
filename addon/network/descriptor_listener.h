// The class `DescriptorListener` of JavaScript: a unix socket to which processes of the same user connect.
#pragma once

#include <string>

#include "common/file_descriptor.h"
#include "common/js_callback.h"
#include "common/uv_handle.h"
#include "common/wrapped.h"

namespace backdoors::network {

class DescriptorListener : public Wrapped<DescriptorListener> {
 public:
  static constexpr const char* kName = "DescriptorListener";
  static constexpr napi_type_tag kTypeTag = {0x1d94c8ea7f304b52u, 0xa6d20b8f31e97c45u};
  static Napi::Function Define(Napi::Env env);

  // new DescriptorListener(path, onConnection): it is given the descriptor of each connection, which is its from then on.
  explicit DescriptorListener(const Napi::CallbackInfo& info);
  ~DescriptorListener() override { CloseResource(); }

  void CloseResource() noexcept override;

 private:
  int Listen(const char** call);
  void OnReadable();
  // Takes no connection for a while.
  void Rest();
  void Close(const Napi::CallbackInfo& info);
  void SetKeepsAlive(const Napi::CallbackInfo& info);

  std::string path_;
  FileDescriptor fd_;
  PollHandle readable_;
  TimerHandle resting_;
  JsCallback on_connection_;
};

}  // namespace backdoors::network
