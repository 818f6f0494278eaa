#include "context_object.h"

#include "device_attributes.h"

namespace backdoors::verbs {

namespace {

constexpr size_t kMaxNameBytes = 64;

// Without the prefix IBV_EVENT_, in the order of enum ibv_event_type.
constexpr const char* kEventNames[] = {
    "CQ_ERR",     "QP_FATAL",     "QP_REQ_ERR", "QP_ACCESS_ERR", "COMM_EST",         "SQ_DRAINED",
    "PATH_MIG",   "PATH_MIG_ERR", "DEVICE_FATAL", "PORT_ACTIVE", "PORT_ERR",         "LID_CHANGE",
    "PKEY_CHANGE", "SM_CHANGE",   "SRQ_ERR",    "SRQ_LIMIT_REACHED", "QP_LAST_WQE_REACHED", "CLIENT_REREGISTER",
    "GID_CHANGE", "WQ_FATAL",
};
static_assert(std::size(kEventNames) == IBV_EVENT_WQ_FATAL + 1, "one name for each event");

const char* NameOf(ibv_event_type type) {
  const auto index = static_cast<size_t>(type);
  return index < std::size(kEventNames) ? kEventNames[index] : "UNKNOWN";
}

bool IsOfQueuePair(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return true;
    default:
      return false;
  }
}

bool IsOfPort(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_PORT_ACTIVE:
    case IBV_EVENT_PORT_ERR:
    case IBV_EVENT_LID_CHANGE:
    case IBV_EVENT_PKEY_CHANGE:
    case IBV_EVENT_SM_CHANGE:
    case IBV_EVENT_CLIENT_REREGISTER:
    case IBV_EVENT_GID_CHANGE:
      return true;
    default:
      return false;
  }
}

}  // namespace

Napi::Function ContextObject::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceAccessor<&ContextObject::Device>("device"),
                      InstanceMethod<&ContextObject::Attributes>("attributes"),
                      InstanceMethod<&ContextObject::Close>("close")});
}

ContextObject::ContextObject(const Napi::CallbackInfo& info) : Wrapped(info) {
  const auto name = ReadString(info.Env(), info[0], "device", kMaxNameBytes);
  if (!name) return;
  if (!info[1].IsUndefined() && !CheckFunction(info.Env(), info[1], "listener")) return;
  Failure failure;
  context_ = Context::Open(*name, &failure);
  if (context_ == nullptr) {
    Throw(info.Env(), failure);
    return;
  }
  if (!info[1].IsUndefined()) Listen(info);
  Tag(info);
}

void ContextObject::Listen(const Napi::CallbackInfo& info) {
  int error = readable_.Open(environment(), context_->get()->async_fd, [this](int, int) { OnEvent(); });
  if (error == 0) error = readable_.Start(UV_READABLE);
  if (error != 0) {
    ThrowErrno(info.Env(), "uv_poll_start", -error, "waiting for the device's events");
    return;
  }
  readable_.SetKeepsAlive(false);
  listener_.Set(info.Env(), info[1], "backdoors.deviceEvents");
}

void ContextObject::OnEvent() {
  ibv_async_event event;
  if (ibv_get_async_event(context_->get(), &event) != 0) return;
  const ibv_event_type type = event.event_type;
  const uint32_t queue_pair = IsOfQueuePair(type) ? event.element.qp->qp_num : 0;
  const int port = IsOfPort(type) ? event.element.port_num : 0;
  // At once: until then the queue pair it names cannot be destroyed.
  ibv_ack_async_event(&event);
  listener_.Call([=](napi_env env, std::span<napi_value> arguments) -> size_t {
    Napi::Object described = Napi::Object::New(env);
    described.Set("event", NameOf(type));
    if (IsOfPort(type)) described.Set("port", Napi::Number::New(env, port));
    if (IsOfQueuePair(type)) described.Set("queuePair", Napi::Number::New(env, queue_pair));
    arguments[0] = described;
    return 1;
  });
}

std::shared_ptr<Context> ContextObject::Use(napi_env env, napi_value value, const char* name) {
  const ContextObject* object = From(env, value, name);
  if (object == nullptr) return nullptr;
  if (object->context_ == nullptr) ThrowError(env, "CLOSED", "the device's context is closed");
  return object->context_;
}

Napi::Value ContextObject::Device(const Napi::CallbackInfo& info) {
  const auto context = Use(info.Env(), info.This(), "this");
  return context == nullptr ? Napi::Value() : Napi::String::New(info.Env(), context->name());
}

Napi::Value ContextObject::Attributes(const Napi::CallbackInfo& info) {
  const auto context = Use(info.Env(), info.This(), "this");
  if (context == nullptr) return {};
  Failure failure;
  const Napi::Value described = DescribeDevice(info.Env(), context->get(), &failure);
  if (described.IsEmpty()) Throw(info.Env(), failure);
  return described;
}

void ContextObject::Close(const Napi::CallbackInfo&) { CloseResource(); }

void ContextObject::CloseResource() noexcept {
  readable_.Close();
  listener_.Reset();
  context_.reset();
}

}  // namespace backdoors::verbs
