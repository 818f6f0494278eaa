#include "mapping.h"

namespace backdoors {

namespace {

constexpr napi_type_tag kPagesTag = {0x6b0f2c5d9a4e4c1bu, 0x9d37e8a1f0425c66u};

// Both targets are compiled from this file at once, so they agree about the pointer behind the object. It is weak: an
// object of JavaScript that nobody has collected yet must not keep pages mapped.
using Pages = std::weak_ptr<Mapping>;

}  // namespace

napi_value LendPages(napi_env env, const std::shared_ptr<Mapping>& pages) {
  napi_value object = nullptr;
  if (napi_create_object(env, &object) != napi_ok) return nullptr;
  auto* held = new Pages(pages);
  const auto release = [](napi_env, void* data, void*) { delete static_cast<Pages*>(data); };
  if (napi_wrap(env, object, held, release, nullptr, nullptr) != napi_ok) {
    delete held;
    return nullptr;
  }
  napi_type_tag_object(env, object, &kPagesTag);
  return object;
}

std::shared_ptr<Mapping> BorrowPages(napi_env env, napi_value object) {
  napi_valuetype type = napi_undefined;
  if (napi_typeof(env, object, &type) != napi_ok || type != napi_object) return nullptr;
  napi_value pages = nullptr;
  if (napi_get_named_property(env, object, "pages", &pages) != napi_ok) {
    // The caller's own getter threw: that is not a SharedMemory, and no more is to be said of it.
    napi_value ignored = nullptr;
    napi_get_and_clear_last_exception(env, &ignored);
    return nullptr;
  }
  bool tagged = false;
  void* held = nullptr;
  if (napi_typeof(env, pages, &type) != napi_ok || type != napi_object ||
      napi_check_object_type_tag(env, pages, &kPagesTag, &tagged) != napi_ok || !tagged ||
      napi_unwrap(env, pages, &held) != napi_ok) {
    return nullptr;
  }
  return static_cast<Pages*>(held)->lock();
}

}  // namespace backdoors
