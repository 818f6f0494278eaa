#include "memory_region_object.h"

#include "common/mapping.h"
#include "protection_domain_object.h"

namespace backdoors::verbs {

namespace {

constexpr int64_t kAllAccess =
    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;

// An ArrayBuffer of the pages, which it keeps mapped for as long as it exists.
Napi::ArrayBuffer BufferOf(Napi::Env env, const std::shared_ptr<OwnPages>& pages, size_t length) {
  auto* held = new std::shared_ptr<OwnPages>(pages);
  return Napi::ArrayBuffer::New(
      env, pages->data(), length, [](Napi::Env, void*, std::shared_ptr<OwnPages>* hint) { delete hint; }, held);
}

}  // namespace

Napi::Function MemoryRegionObject::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceAccessor<&MemoryRegionObject::Buffer>("buffer"),
                      InstanceAccessor<&MemoryRegionObject::Length>("length"),
                      InstanceAccessor<&MemoryRegionObject::Address>("address"),
                      InstanceAccessor<&MemoryRegionObject::LocalKey>("lkey"),
                      InstanceAccessor<&MemoryRegionObject::RemoteKey>("rkey"),
                      InstanceMethod<&MemoryRegionObject::Close>("close")});
}

MemoryRegionObject::MemoryRegionObject(const Napi::CallbackInfo& info) : Wrapped(info) {
  const napi_env env = info.Env();
  auto domain = ProtectionDomainObject::Use(env, info[0], "domain");
  if (domain == nullptr) return;
  const Options options(env, info[1]);
  napi_value memory = nullptr;
  if (!options.Check("options") || !options.Value("memory", &memory)) return;
  const bool registered = memory == nullptr ? RegisterOwn(info, std::move(domain), options)
                                            : RegisterShared(info, std::move(domain), options, memory);
  if (registered) Tag(info);
}

bool MemoryRegionObject::RegisterOwn(const Napi::CallbackInfo& info, std::shared_ptr<ProtectionDomain> domain,
                                     const Options& options) {
  int64_t length = 0;
  int64_t access = IBV_ACCESS_LOCAL_WRITE;
  if (!options.Integer("length", 1, kMaxSafeInteger, &length) || !options.Integer("access", 0, kAllAccess, &access)) {
    return false;
  }
  if (length == 0) {
    ThrowInvalidArgument(info.Env(), "length", "length must be given where memory is not.");
    return false;
  }
  Failure failure;
  auto pages = OwnPages::Map(static_cast<size_t>(length), &failure);
  if (pages == nullptr) {
    Throw(info.Env(), failure);
    return false;
  }
  uint8_t* data = pages->data();
  const Napi::ArrayBuffer buffer = BufferOf(info.Env(), pages, static_cast<size_t>(length));
  if (buffer.IsEmpty()) return false;
  buffer_ = Napi::Persistent(buffer);
  return Register(info.Env(), std::move(domain), data, static_cast<size_t>(length), access, std::move(pages));
}

bool MemoryRegionObject::RegisterShared(const Napi::CallbackInfo& info, std::shared_ptr<ProtectionDomain> domain,
                                        const Options& options, napi_value memory) {
  const napi_env env = info.Env();
  int64_t offset = 0;
  int64_t length = -1;
  int64_t access = IBV_ACCESS_REMOTE_READ;
  if (!options.Integer("offset", 0, kMaxSafeInteger, &offset) ||
      !options.Integer("length", 1, kMaxSafeInteger, &length) || !options.Integer("access", 0, kAllAccess, &access)) {
    return false;
  }
  const std::shared_ptr<Mapping> pages = BorrowPages(env, memory);
  if (pages == nullptr) {
    ThrowInvalidArgument(env, "memory", "memory must be an open SharedMemory.");
    return false;
  }
  const auto whole = static_cast<int64_t>(pages->length());
  if (length < 0) length = whole - offset;
  if (offset >= whole || length > whole - offset) {
    Details details;
    details.offset = static_cast<uint64_t>(offset);
    details.length = static_cast<uint64_t>(length);
    ThrowError(env, "OUT_OF_RANGE",
               "cannot register " + std::to_string(length) + " bytes from offset " + std::to_string(offset) +
                   " on: the memory has " + std::to_string(whole) + " bytes",
               details);
    return false;
  }
  return Register(env, std::move(domain), pages->data() + offset, static_cast<size_t>(length), access, pages);
}

bool MemoryRegionObject::Register(napi_env env, std::shared_ptr<ProtectionDomain> domain, uint8_t* data, size_t length,
                                  int64_t access, std::shared_ptr<void> pages) {
  if ((access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) != 0 && (access & IBV_ACCESS_LOCAL_WRITE) == 0) {
    ThrowInvalidArgument(env, "access", "access by remoteWrite or remoteAtomic needs localWrite as well.");
    return false;
  }
  Failure failure;
  region_ = MemoryRegion::Register(std::move(domain), data, length, static_cast<int>(access), std::move(pages), &failure);
  if (region_ == nullptr) Throw(env, failure);
  return region_ != nullptr;
}

std::shared_ptr<MemoryRegion> MemoryRegionObject::Use(napi_env env, napi_value value, const char* name) {
  const MemoryRegionObject* object = From(env, value, name);
  if (object == nullptr) return nullptr;
  if (object->region_ == nullptr) ThrowError(env, "CLOSED", "the memory region is closed");
  return object->region_;
}

Napi::Value MemoryRegionObject::Buffer(const Napi::CallbackInfo& info) {
  return buffer_.IsEmpty() ? info.Env().Null() : buffer_.Value();
}

Napi::Value MemoryRegionObject::Length(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), region_ == nullptr ? 0 : static_cast<double>(region_->length()));
}

Napi::Value MemoryRegionObject::Address(const Napi::CallbackInfo& info) {
  const auto region = Use(info.Env(), info.This(), "this");
  if (region == nullptr) return {};
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(reinterpret_cast<uintptr_t>(region->data())));
}

Napi::Value MemoryRegionObject::LocalKey(const Napi::CallbackInfo& info) {
  const auto region = Use(info.Env(), info.This(), "this");
  return region == nullptr ? Napi::Value() : Napi::Number::New(info.Env(), region->lkey());
}

Napi::Value MemoryRegionObject::RemoteKey(const Napi::CallbackInfo& info) {
  const auto region = Use(info.Env(), info.This(), "this");
  return region == nullptr ? Napi::Value() : Napi::Number::New(info.Env(), region->rkey());
}

}  // namespace backdoors::verbs
