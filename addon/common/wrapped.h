// A C++ object behind an object of JavaScript: Napi::ObjectWrap, with two things it lacks. An object of another class
// given as this one is refused instead of being taken for it; and the object is closed before its environment ends.
#pragma once

#include <napi.h>

#include <optional>

#include "arguments.h"
#include "environment.h"
#include "error.h"

namespace backdoors {

// T has `static constexpr napi_type_tag kTypeTag`, 16 random bytes of its own, and `static constexpr const char*
// kName`. The constructor of T calls Tag() once it has succeeded.
template <typename T>
class Wrapped : public Napi::ObjectWrap<T>, public Resource {
 public:
  explicit Wrapped(const Napi::CallbackInfo& info) : Napi::ObjectWrap<T>(info), Resource(info.Env()) {}

  // Replaces ObjectWrap's own, which takes whatever is behind the object for a T; methods and accessors come here
  // too. Null after throwing INVALID_ARGUMENT.
  static T* Unwrap(Napi::Object object) { return From(object.Env(), object, "this"); }

  // The T behind an argument.
  static T* From(napi_env env, napi_value value, const char* name) {
    napi_valuetype type = napi_undefined;
    bool tagged = false;
    void* data = nullptr;
    if (napi_typeof(env, value, &type) == napi_ok && type == napi_object &&
        napi_check_object_type_tag(env, value, &T::kTypeTag, &tagged) == napi_ok && tagged &&
        napi_unwrap(env, value, &data) == napi_ok) {
      return static_cast<T*>(data);
    }
    ThrowInvalidArgument(env, name, std::string(name) + " must be a " + T::kName + ".");
    return nullptr;
  }

  static Napi::Value OnCalledAsFunction(const Napi::CallbackInfo& info) {
    ThrowInvalidArgument(info.Env(), "new", std::string(T::kName) + " must be called with new.");
    return info.Env().Undefined();
  }

 protected:
  void Tag(const Napi::CallbackInfo& info) { napi_type_tag_object(info.Env(), info.This(), &T::kTypeTag); }

  // What runs for its effect is not garbage when its variable is: a running thread holds its object, from here until
  // it is closed.
  void HoldSelf() {
    if (!held_) this->Ref();
    held_ = true;
  }
  void ReleaseSelf() {
    if (held_ && environment() != nullptr) this->Unref();
    held_ = false;
  }

 private:
  bool held_ = false;
};

}  // namespace backdoors
