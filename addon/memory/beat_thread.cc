#include "beat_thread.h"

namespace backdoors::memory {

namespace {

constexpr double kMaxIntervalUs = 3.6e9;

bool CheckWord(napi_env env, const Mapping& pages, int64_t offset, const char* name) {
  const auto at = static_cast<uint64_t>(offset);
  if (offset >= 0 && at % sizeof(uint32_t) == 0 && pages.length() >= sizeof(uint32_t) &&
      at <= pages.length() - sizeof(uint32_t)) {
    return true;
  }
  ThrowInvalidArgument(env, name, std::string(name) + " must be a multiple of 4 within the memory's " +
                                      std::to_string(pages.length()) + " bytes.");
  return false;
}

std::optional<BeatOptions> ReadOptions(napi_env env, napi_value value) {
  const Options options(env, value);
  napi_value memory = nullptr;
  int64_t counter = -1;
  int64_t fence = -1;
  int64_t fence_limit = 0;
  double interval_us = 0;
  if (!options.Check("options") || !options.Value("memory", &memory) ||
      !options.Integer("counterOffset", 0, kMaxSafeInteger, &counter) ||
      !options.Integer("fenceOffset", 0, kMaxSafeInteger, &fence) ||
      !options.Integer("fenceLimit", 0, UINT32_MAX, &fence_limit) ||
      !options.Number("intervalUs", 1, kMaxIntervalUs, &interval_us)) {
    return std::nullopt;
  }
  if (interval_us <= 0) {
    ThrowInvalidArgument(env, "intervalUs", "intervalUs is needed.");
    return std::nullopt;
  }
  auto pages = memory == nullptr ? nullptr : BorrowPages(env, memory);
  if (pages == nullptr || !pages->writable()) {
    ThrowInvalidArgument(env, "memory", "memory must be an open, writable SharedMemory.");
    return std::nullopt;
  }
  if (!CheckWord(env, *pages, counter, "counterOffset") || !CheckWord(env, *pages, fence, "fenceOffset")) {
    return std::nullopt;
  }
  return BeatOptions{std::move(pages), static_cast<size_t>(counter), static_cast<size_t>(fence),
                     static_cast<uint32_t>(fence_limit), static_cast<uint64_t>(interval_us * 1000.0)};
}

}  // namespace

Napi::Function BeatThread::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {
                         InstanceAccessor<&BeatThread::Warnings>("warnings"),
                         InstanceAccessor<&BeatThread::Beats>("beats"),
                         InstanceAccessor<&BeatThread::Fenced>("fenced"),
                         InstanceMethod<&BeatThread::Close>("close"),
                     });
}

BeatThread::BeatThread(const Napi::CallbackInfo& info) : Wrapped(info) {
  auto options = ReadOptions(info.Env(), info[0]);
  if (!options) return;
  auto beat = std::make_unique<Beat>(std::move(*options));
  const int error = beat->Start(&warnings_);
  if (error != 0) {
    ThrowErrno(info.Env(), "pthread_create", error, "Starting a beat thread");
    return;
  }
  beat_ = std::move(beat);
  Tag(info);
  HoldSelf();
}

void BeatThread::CloseResource() noexcept {
  if (beat_ != nullptr) {
    beat_->Stop();
    beats_ = beat_->beats();
    fenced_ = beat_->fenced();
    beat_ = nullptr;
  }
  ReleaseSelf();
}

void BeatThread::Close(const Napi::CallbackInfo&) { CloseResource(); }

Napi::Value BeatThread::Warnings(const Napi::CallbackInfo& info) {
  auto array = Napi::Array::New(info.Env(), warnings_.size());
  for (uint32_t index = 0; index < warnings_.size(); ++index) array.Set(index, warnings_[index]);
  return array;
}

Napi::Value BeatThread::Beats(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(beats()));
}

Napi::Value BeatThread::Fenced(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), fenced());
}

}  // namespace backdoors::memory
