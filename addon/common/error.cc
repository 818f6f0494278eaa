#include "error.h"

#include <cstring>

#include "environment.h"

namespace backdoors {

namespace {

void SetField(napi_env env, napi_value object, const char* name, napi_value value) {
  if (value != nullptr) napi_set_named_property(env, object, name, value);
}

napi_value Text(napi_env env, const std::string& text) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text.data(), text.size(), &value);
  return value;
}

napi_value Number(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return value;
}

napi_value ToObject(napi_env env, const Details& details) {
  napi_value object = nullptr;
  if (napi_create_object(env, &object) != napi_ok) return nullptr;
  if (details.peer) SetField(env, object, "peer", Text(env, *details.peer));
  if (details.offset) SetField(env, object, "offset", Number(env, static_cast<double>(*details.offset)));
  if (details.length) SetField(env, object, "length", Number(env, static_cast<double>(*details.length)));
  if (details.address) {
    napi_value address = nullptr;
    napi_create_bigint_uint64(env, *details.address, &address);
    SetField(env, object, "address", address);
  }
  if (details.vendor_error) SetField(env, object, "vendorError", Number(env, *details.vendor_error));
  if (details.queue_pair) SetField(env, object, "queuePair", Number(env, *details.queue_pair));
  if (details.error_number) {
    SetField(env, object, "errno", Number(env, *details.error_number));
    SetField(env, object, "errnoName", Text(env, ErrnoName(*details.error_number)));
  }
  if (details.call) SetField(env, object, "call", Text(env, *details.call));
  if (details.path) SetField(env, object, "path", Text(env, *details.path));
  if (details.interface) SetField(env, object, "interface", Text(env, *details.interface));
  if (details.field) SetField(env, object, "field", Text(env, *details.field));
  return object;
}

}  // namespace

napi_value MakeError(napi_env env, const char* code, const std::string& message, const Details& details) {
  napi_value error = nullptr;
  napi_value code_value = Text(env, code);
  napi_value message_value = Text(env, message);
  Environment* environment = Environment::Of(env);
  napi_value factory = environment == nullptr ? nullptr : environment->error_factory();
  if (factory == nullptr) {
    napi_create_error(env, code_value, message_value, &error);
    return error;
  }
  napi_value arguments[] = {code_value, message_value, ToObject(env, details)};
  napi_value receiver = nullptr;
  napi_get_undefined(env, &receiver);
  if (napi_call_function(env, receiver, factory, 3, arguments, &error) != napi_ok) return nullptr;
  return error;
}

void ThrowError(napi_env env, const char* code, const std::string& message, const Details& details) {
  if (IsExceptionPending(env)) return;
  napi_value error = MakeError(env, code, message, details);
  if (error != nullptr) napi_throw(env, error);
}

void ThrowErrno(napi_env env, const char* call, int error_number, const std::string& doing, Details details) {
  details.error_number = error_number;
  details.call = call;
  ThrowError(env, "SYSTEM_CALL_FAILED", doing + ": " + call + ": " + ErrnoText(error_number), details);
}

std::string ErrnoName(int error_number) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  const char* name = strerrorname_np(error_number);
  if (name != nullptr) return name;
#endif
  return "E" + std::to_string(error_number);
}

std::string ErrnoText(int error_number) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  // Unlike strerror it may be called by several threads at once.
  const char* text = strerrordesc_np(error_number);
  if (text != nullptr) return text;
#endif
  return "error " + std::to_string(error_number);
}

bool IsExceptionPending(napi_env env) {
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  return pending;
}

}  // namespace backdoors
