// The class `DescriptorChannel` of JavaScript: messages with descriptors, between two processes of this machine.
#pragma once

#include <deque>

#include "common/js_callback.h"
#include "common/uv_handle.h"
#include "common/wrapped.h"
#include "descriptor_message.h"

namespace backdoors::network {

class DescriptorChannel : public Wrapped<DescriptorChannel> {
 public:
  static constexpr const char* kName = "DescriptorChannel";
  static constexpr napi_type_tag kTypeTag = {0x5be7140c93d2486au, 0x8e1f6b27c05ad934u};
  static Napi::Function Define(Napi::Env env);

  // new DescriptorChannel(path or accepted descriptor, { onMessage, onDrain, onClose })
  explicit DescriptorChannel(const Napi::CallbackInfo& info);
  ~DescriptorChannel() override { CloseResource(); }

  void CloseResource() noexcept override;

 private:
  bool Connect(napi_env env, napi_value target);
  bool Listen(napi_env env);
  void OnReady(int events);
  void OnReadable();
  void OnWritable();
  void Deliver(DescriptorMessage* message);
  // Closes, and tells why: 0 for the peer's end.
  void End(int error);
  int WatchFor(int events);
  bool Queue(napi_env env, std::span<const uint8_t> bytes, std::span<const int> descriptors);

  Napi::Value Send(const Napi::CallbackInfo& info);
  void SetKeepsAlive(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor fd_;
  PollHandle ready_;
  JsCallback on_message_;
  JsCallback on_drain_;
  JsCallback on_close_;
  std::deque<DescriptorMessage> queue_;
  size_t queued_bytes_ = 0;
  bool wants_drain_ = false;
};

}  // namespace backdoors::network
