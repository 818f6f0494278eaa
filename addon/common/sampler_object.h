// The class `Sampler` of JavaScript, over any kind of source. A target of the addon derives its own from it:
//
//     class FileSampler : public SamplerObject<FileSampler> {
//      public:
//       using SamplerObject::SamplerObject;
//       static constexpr napi_type_tag kTypeTag = {…};
//       // How many of add's arguments make the source; cells and times follow them.
//       static constexpr size_t kSourceArguments = 2;
//       // Null after throwing. Reads no properties (arguments.h says why).
//       static std::shared_ptr<SampleSource> MakeSource(napi_env env, const napi_value* arguments);
//     };
//     exports.Set("Sampler", FileSampler::Define(env));
#pragma once

#include <array>
#include <memory>

#include "js_callback.h"
#include "sampler.h"
#include "sampler_arguments.h"
#include "uv_handle.h"
#include "wrapped.h"

namespace backdoors {

template <typename Derived>
class SamplerObject : public Wrapped<Derived> {
 public:
  static constexpr const char* kName = "Sampler";

  static Napi::Function Define(Napi::Env env) {
    return Derived::DefineClass(env, kName,
                                {
                                    Derived::InstanceMethod("add", &Derived::Add),
                                    Derived::InstanceMethod("update", &Derived::Update),
                                    Derived::InstanceMethod("remove", &Derived::Remove),
                                    Derived::InstanceMethod("state", &Derived::State),
                                    Derived::InstanceMethod("histograms", &Derived::Histograms),
                                    Derived::InstanceAccessor("warnings", &Derived::Warnings, nullptr),
                                    Derived::InstanceMethod("close", &Derived::Close),
                                });
  }

  explicit SamplerObject(const Napi::CallbackInfo& info) : Wrapped<Derived>(info) {
    const napi_env env = info.Env();
    if (!CheckFunction(env, info[0], "listener")) return;
    const auto options = ReadSamplerOptions(env, info[1]);
    if (!options) return;
    const int error = woken_.Open(this->environment(), [this] { Deliver(); });
    if (error != 0) {
      ThrowErrno(env, "uv_async_init", -error, "Making a sampler");
      return;
    }
    woken_.SetKeepsAlive(false);
    listener_.Set(env, info[0], "backdoors.Sampler");
    sampler_ = std::make_unique<Sampler>([this] { woken_.Send(); }, *options);
    this->Tag(info);
  }
  ~SamplerObject() override { CloseResource(); }

  void CloseResource() noexcept override {
    // The thread first: it wakes the event loop through the handle.
    sampler_ = nullptr;
    woken_.Close();
    listener_.Reset();
    this->ReleaseSelf();
  }

  Napi::Value Add(const Napi::CallbackInfo& info) {
    auto plan = ReadArguments(info, 0);
    if (!plan) return {};
    const int64_t target = sampler_->Add(std::move(*plan));
    if (target < 0) {
      ThrowErrno(info.Env(), "pthread_create", static_cast<int>(-target), "Starting the sampler's thread");
      return {};
    }
    SetBusy();
    return Napi::Number::New(info.Env(), static_cast<double>(target));
  }

  void Update(const Napi::CallbackInfo& info) {
    const auto target = ReadTarget(info);
    if (!target) return;
    auto plan = ReadArguments(info, 1);
    // Reading the plan may have run code that removed the target.
    if (plan && CheckTarget(info.Env(), *target)) sampler_->Update(*target, std::move(*plan));
  }

  // A target that is gone already is gone.
  void Remove(const Napi::CallbackInfo& info) {
    const auto target = ReadInteger(info.Env(), info[0], "target", 0, UINT32_MAX);
    if (!target || sampler_ == nullptr) return;
    sampler_->Remove(static_cast<uint32_t>(*target));
    SetBusy();
  }

  Napi::Value State(const Napi::CallbackInfo& info) {
    const auto target = ReadTarget(info);
    if (!target) return {};
    return {info.Env(), PackReport(info.Env(), sampler_->Find(*target)->Report())};
  }

  Napi::Value Histograms(const Napi::CallbackInfo& info) {
    const auto target = ReadTarget(info);
    if (!target) return {};
    return {info.Env(), PackHistograms(info.Env(), sampler_->Find(*target)->histograms())};
  }

  Napi::Value Warnings(const Napi::CallbackInfo& info) {
    auto array = Napi::Array::New(info.Env());
    if (sampler_ == nullptr) return array;
    for (const std::string& warning : sampler_->warnings()) array.Set(array.Length(), warning);
    return array;
  }

  void Close(const Napi::CallbackInfo&) { CloseResource(); }

 private:
  // The arguments that make a plan, from the `first` on.
  std::optional<SamplePlan> ReadArguments(const Napi::CallbackInfo& info, size_t first) {
    std::array<napi_value, Derived::kSourceArguments + 3> arguments;
    for (size_t index = 0; index < arguments.size(); ++index) arguments[index] = info[first + index];
    auto plan = ReadPlan(info.Env(), arguments.data() + Derived::kSourceArguments);
    if (!plan) return std::nullopt;
    plan->source = Derived::MakeSource(info.Env(), arguments.data());
    if (plan->source == nullptr || !CheckPositions(info.Env(), *plan) || !CheckOpen(info.Env())) return std::nullopt;
    return plan;
  }

  std::optional<uint32_t> ReadTarget(const Napi::CallbackInfo& info) {
    const auto target = ReadInteger(info.Env(), info[0], "target", 0, UINT32_MAX);
    if (!target || !CheckTarget(info.Env(), static_cast<uint32_t>(*target))) return std::nullopt;
    return static_cast<uint32_t>(*target);
  }

  bool CheckTarget(napi_env env, uint32_t target) {
    if (!CheckOpen(env)) return false;
    if (sampler_->Find(target) != nullptr) return true;
    ThrowInvalidArgument(env, "target", "The sampler has no target " + std::to_string(target) + ".");
    return false;
  }

  bool CheckOpen(napi_env env) {
    if (sampler_ != nullptr) return true;
    ThrowError(env, "CLOSED", "The sampler is closed.");
    return false;
  }

  // While something is watched, neither the process ends nor is this object garbage.
  void SetBusy() {
    const bool is_busy = sampler_->size() > 0;
    woken_.SetKeepsAlive(is_busy);
    is_busy ? this->HoldSelf() : this->ReleaseSelf();
  }

  void Deliver() {
    const std::vector<SamplerEvent> events = sampler_->TakeEvents();
    if (events.empty()) return;
    listener_.Call([&events](napi_env env, std::span<napi_value> arguments) -> size_t {
      arguments[0] = PackEvents(env, events, &arguments[1]);
      return 2;
    });
  }

  std::unique_ptr<Sampler> sampler_;
  AsyncHandle woken_;
  JsCallback listener_;
};

}  // namespace backdoors
