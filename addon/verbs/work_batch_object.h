// `WorkBatch` of src/native/verbs.ts.
//
// What is called for each run does as little as can be done between JavaScript and the device. `prepare`, `run` and
// `runSync` are functions of each object's own, not methods of its class: such a function knows its object by itself,
// while finding the object behind `this` takes longer than all else that a call does.
#pragma once

#include <memory>

#include "common/wrapped.h"
#include "completion_loop.h"
#include "work_batch.h"

namespace backdoors::verbs {

class WorkBatchObject : public Wrapped<WorkBatchObject>, public AwaitedRun {
 public:
  static constexpr napi_type_tag kTypeTag = {0xf40c27ae915b4d38, 0x6e8b03d5c2a1f794};
  static constexpr const char* kName = "WorkBatch";
  static Napi::Function Define(Napi::Env env);

  explicit WorkBatchObject(const Napi::CallbackInfo& info);
  ~WorkBatchObject() override { CloseResource(); }

  // Null after throwing CLOSED.
  static WorkBatchObject* Use(napi_env env, napi_value value, const char* name);
  const std::shared_ptr<WorkBatch>& batch() const { return batch_; }
  // Whoever holds it keeps the queue pair from ending.
  const std::shared_ptr<QueuePair>& pair() const { return pair_; }

  WorkBatch* awaited_batch() override { return batch_.get(); }
  void Settled() override;
  void CloseResource() noexcept override;

 private:
  static napi_value Prepare(napi_env env, napi_callback_info info);
  static napi_value Run(napi_env env, napi_callback_info info);
  static napi_value RunSync(napi_env env, napi_callback_info info);
  Napi::Value Capacity(const Napi::CallbackInfo& info);
  Napi::Value Busy(const Napi::CallbackInfo& info);
  void PrepareAtomic(const Napi::CallbackInfo& info);
  Napi::Value LatencyLoop(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  bool DefineOwnFunctions(napi_value object);
  // Null after throwing CLOSED.
  static WorkBatchObject* OwnerOf(napi_env env, napi_callback_info info, size_t count, napi_value* arguments);
  std::mutex& mutex() const { return loop_->queue().mutex(); }
  // False, and `failure_` says why, if nothing was posted. The mutex is held.
  bool Start();
  // Polls until the run is over or has timed out.
  bool Spin(std::unique_lock<std::mutex>& lock);

  std::shared_ptr<WorkBatch> batch_;
  std::shared_ptr<QueuePair> pair_;
  std::shared_ptr<CompletionLoop> loop_;
  napi_env env_;
  uint64_t timeout_us_ = 0;
  // Why the last run could not be started. Kept here, because making one for each run would take longer than the rest.
  Failure failure_;
  // Of the run that is awaited.
  napi_deferred deferred_ = nullptr;
  bool closed_ = false;
};

}  // namespace backdoors::verbs
