#include "environment.h"

namespace backdoors {

Resource::Resource(napi_env env) : environment_(Environment::Of(env)) {
  if (environment_ == nullptr) return;
  older_ = environment_->newest_;
  if (older_ != nullptr) older_->newer_ = this;
  environment_->newest_ = this;
}

Resource::~Resource() { Unlink(); }

void Resource::Unlink() noexcept {
  if (environment_ == nullptr) return;
  if (newer_ != nullptr) {
    newer_->older_ = older_;
  } else {
    environment_->newest_ = older_;
  }
  if (older_ != nullptr) older_->newer_ = newer_;
  newer_ = older_ = nullptr;
  environment_ = nullptr;
}

Environment* Environment::Create(napi_env env) {
  auto* environment = new Environment(env);
  if (napi_get_uv_event_loop(env, &environment->loop_) != napi_ok) {
    delete environment;
    return nullptr;
  }
  napi_set_instance_data(
      env, environment, [](napi_env, void* data, void*) { delete static_cast<Environment*>(data); }, nullptr);
  napi_add_async_cleanup_hook(
      env, [](napi_async_cleanup_hook_handle hook, void* data) { static_cast<Environment*>(data)->Shutdown(hook); },
      environment, nullptr);
  return environment;
}

Environment* Environment::Of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Environment*>(data);
}

napi_value Environment::error_factory() const {
  napi_value factory = nullptr;
  if (error_factory_ != nullptr) napi_get_reference_value(env_, error_factory_, &factory);
  return factory;
}

void Environment::SetErrorFactory(napi_value factory) {
  if (error_factory_ != nullptr) napi_delete_reference(env_, error_factory_);
  error_factory_ = nullptr;
  napi_create_reference(env_, factory, 1, &error_factory_);
}

void Environment::HandleClosed() {
  --open_handles_;
  FinishWhenClosed();
}

void Environment::Shutdown(napi_async_cleanup_hook_handle hook) {
  while (newest_ != nullptr) {
    Resource* resource = newest_;
    resource->CloseResource();
    resource->Unlink();
  }
  if (error_factory_ != nullptr) napi_delete_reference(env_, error_factory_);
  error_factory_ = nullptr;
  ending_ = hook;
  FinishWhenClosed();
}

void Environment::FinishWhenClosed() {
  if (ending_ == nullptr || open_handles_ > 0) return;
  napi_async_cleanup_hook_handle hook = ending_;
  ending_ = nullptr;
  // Lets Node-API go on to the finalizers, which may delete this object at once.
  napi_remove_async_cleanup_hook(hook);
}

}  // namespace backdoors
