#include "completion_queue_object.h"

#include "context_object.h"

namespace backdoors::verbs {

namespace {

constexpr int64_t kMaxDepth = 1 << 22;

}  // namespace

Napi::Function CompletionQueueObject::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceAccessor<&CompletionQueueObject::Depth>("depth"),
                      InstanceMethod<&CompletionQueueObject::Close>("close")});
}

CompletionQueueObject::CompletionQueueObject(const Napi::CallbackInfo& info) : Wrapped(info) {
  auto context = ContextObject::Use(info.Env(), info[0], "context");
  if (context == nullptr) return;
  const auto depth = ReadInteger(info.Env(), info[1], "depth", 1, kMaxDepth);
  if (!depth) return;
  Failure failure;
  auto queue = CompletionQueue::Create(std::move(context), static_cast<int>(*depth), &failure);
  if (queue == nullptr) {
    Throw(info.Env(), failure);
    return;
  }
  loop_ = CompletionLoop::Open(info.Env(), std::move(queue));
  if (loop_ != nullptr) Tag(info);
}

std::shared_ptr<CompletionLoop> CompletionQueueObject::Use(napi_env env, napi_value value, const char* name) {
  const CompletionQueueObject* object = From(env, value, name);
  if (object == nullptr) return nullptr;
  if (object->loop_ == nullptr) ThrowError(env, "CLOSED", "the completion queue is closed");
  return object->loop_;
}

Napi::Value CompletionQueueObject::Depth(const Napi::CallbackInfo& info) {
  const auto loop = Use(info.Env(), info.This(), "this");
  return loop == nullptr ? Napi::Value() : Napi::Number::New(info.Env(), loop->queue().depth());
}

}  // namespace backdoors::verbs
