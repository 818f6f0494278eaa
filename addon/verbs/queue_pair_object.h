// `QueuePair` of src/native/verbs.ts.
#pragma once

#include <memory>

#include "common/wrapped.h"
#include "completion_loop.h"
#include "queue_pair.h"

namespace backdoors::verbs {

class QueuePairObject : public Wrapped<QueuePairObject> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x37b95d0c6e1a4f82, 0xc0d8714b2f9ea563};
  static constexpr const char* kName = "QueuePair";
  static Napi::Function Define(Napi::Env env);

  explicit QueuePairObject(const Napi::CallbackInfo& info);

  // Null after throwing CLOSED.
  static QueuePairObject* Use(napi_env env, napi_value value, const char* name);
  const std::shared_ptr<QueuePair>& pair() const { return pair_; }
  const std::shared_ptr<CompletionLoop>& loop() const { return loop_; }
  void CloseResource() noexcept override;

 private:
  Napi::Value Number(const Napi::CallbackInfo& info);
  Napi::Value State(const Napi::CallbackInfo& info);
  void Connect(const Napi::CallbackInfo& info);
  void SetWindows(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  std::shared_ptr<QueuePair> pair_;
  std::shared_ptr<CompletionLoop> loop_;
};

}  // namespace backdoors::verbs
