#include "work_batch_object.h"

#include <utility>
#include <vector>

#include "cycle_clock.h"
#include "memory_region_object.h"
#include "queue_pair_object.h"

namespace backdoors::verbs {

namespace {

constexpr int64_t kMaxCapacity = 1 << 20;
constexpr int64_t kMaxIterations = 100'000'000;
// 11 days: whatever is longer is a mistake.
constexpr double kMaxTimeoutUs = 1e12;
constexpr size_t kRowFields = 4;
static_assert(sizeof(RequestRow) == kRowFields * sizeof(double), "a row is four doubles, as JavaScript packs it");

napi_value Undefined(napi_env env) {
  napi_value undefined = nullptr;
  napi_get_undefined(env, &undefined);
  return undefined;
}

void Reject(napi_env env, napi_deferred deferred, const Failure& failure) {
  napi_value error = MakeError(env, failure.code, failure.message, failure.details);
  if (error != nullptr) napi_reject_deferred(env, deferred, error);
}

// The opcode of reads and writes; nothing for all else.
std::optional<ibv_wr_opcode> ReadOpcode(napi_env env, napi_value value) {
  double number = -1;
  napi_get_value_double(env, value, &number);
  for (const ibv_wr_opcode opcode : {IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE}) {
    if (number == static_cast<int>(opcode)) return opcode;
  }
  return std::nullopt;
}

bool IsAtomic(int64_t opcode) { return opcode == IBV_WR_ATOMIC_CMP_AND_SWP || opcode == IBV_WR_ATOMIC_FETCH_AND_ADD; }

}  // namespace

Napi::Function WorkBatchObject::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceAccessor<&WorkBatchObject::Capacity>("capacity"),
                      InstanceAccessor<&WorkBatchObject::Busy>("busy"),
                      InstanceMethod<&WorkBatchObject::PrepareAtomic>("prepareAtomic"),
                      InstanceMethod<&WorkBatchObject::LatencyLoop>("latencyLoop"),
                      InstanceMethod<&WorkBatchObject::Close>("close")});
}

WorkBatchObject::WorkBatchObject(const Napi::CallbackInfo& info) : Wrapped(info), env_(info.Env()) {
  const QueuePairObject* pair = QueuePairObject::Use(env_, info[0], "queuePair");
  if (pair == nullptr) return;
  auto region = MemoryRegionObject::Use(env_, info[1], "region");
  if (region == nullptr) return;
  const auto capacity = ReadInteger(env_, info[2], "capacity", 1, kMaxCapacity);
  if (!capacity) return;
  const auto timeout_us = ReadNumber(env_, info[3], "timeoutUs", 1, kMaxTimeoutUs);
  if (!timeout_us || !DefineOwnFunctions(info.This())) return;
  timeout_us_ = static_cast<uint64_t>(*timeout_us);
  pair_ = pair->pair();
  loop_ = pair->loop();
  batch_ = std::make_shared<WorkBatch>(pair_.get(), std::move(region), static_cast<uint32_t>(*capacity));
  batch_->object = static_cast<AwaitedRun*>(this);
  Tag(info);
}

WorkBatchObject* WorkBatchObject::Use(napi_env env, napi_value value, const char* name) {
  WorkBatchObject* object = From(env, value, name);
  if (object == nullptr || !object->closed_) return object;
  ThrowError(env, "CLOSED", "the batch is closed");
  return nullptr;
}

// Each function holds the object by a property that cannot be taken from it, so the object lives while any of them can
// still be called.
bool WorkBatchObject::DefineOwnFunctions(napi_value object) {
  const struct {
    const char* name;
    napi_callback function;
  } functions[] = {{"prepare", Prepare}, {"run", Run}, {"runSync", RunSync}};
  for (const auto& [name, function] : functions) {
    napi_value value = nullptr;
    const napi_property_descriptor owner = {"batch", nullptr, nullptr, nullptr, nullptr, object, napi_default, nullptr};
    if (napi_create_function(env_, name, NAPI_AUTO_LENGTH, function, this, &value) != napi_ok ||
        napi_define_properties(env_, value, 1, &owner) != napi_ok) {
      return false;
    }
    const napi_property_descriptor own = {name, nullptr, nullptr, nullptr, nullptr, value, napi_enumerable, nullptr};
    if (napi_define_properties(env_, object, 1, &own) != napi_ok) return false;
  }
  return true;
}

WorkBatchObject* WorkBatchObject::OwnerOf(napi_env env, napi_callback_info info, size_t count, napi_value* arguments) {
  void* object = nullptr;
  napi_get_cb_info(env, info, &count, arguments, nullptr, &object);
  auto* self = static_cast<WorkBatchObject*>(object);
  if (!self->closed_) return self;
  ThrowError(env, "CLOSED", "the batch is closed");
  return nullptr;
}

napi_value WorkBatchObject::Prepare(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  WorkBatchObject* self = OwnerOf(env, info, 3, arguments);
  if (self == nullptr) return nullptr;
  const auto opcode = ReadOpcode(env, arguments[0]);
  const auto count = ReadInteger(env, arguments[2], "count", 0, kMaxCapacity);
  if (!count) return nullptr;
  const auto rows = ReadDoubles(env, arguments[1], "rows");
  if (!rows) return nullptr;
  if (!opcode || rows->size() < static_cast<size_t>(*count) * kRowFields) {
    ThrowInvalidArgument(env, "rows", "prepare takes reads or writes, and four numbers for each.");
    return nullptr;
  }
  Failure failure;
  const std::lock_guard lock(self->mutex());
  const auto* first = reinterpret_cast<const RequestRow*>(rows->data());
  if (!self->batch_->Prepare(*opcode, first, static_cast<uint32_t>(*count), &failure)) Throw(env, failure);
  return nullptr;
}

void WorkBatchObject::PrepareAtomic(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  if (Use(env, info.This(), "this") == nullptr) return;
  const auto opcode = ReadInteger(env, info[0], "opcode", 0, 255);
  if (!opcode) return;
  if (!IsAtomic(*opcode)) {
    ThrowInvalidArgument(env, "opcode", "prepareAtomic takes compareAndSwap or fetchAndAdd.");
    return;
  }
  const auto window = ReadInteger(env, info[1], "window", 0, kMaxSafeInteger);
  const auto offset = window ? ReadInteger(env, info[2], "offset", 0, kMaxSafeInteger) : std::nullopt;
  const auto local = offset ? ReadInteger(env, info[3], "localOffset", 0, kMaxSafeInteger) : std::nullopt;
  const auto compare = local ? ReadUint64(env, info[4], "compareOrAdd") : std::nullopt;
  const auto swap = compare ? ReadUint64(env, info[5], "swap") : std::nullopt;
  if (!swap) return;
  const RequestRow row = {static_cast<double>(*window), static_cast<double>(*offset), static_cast<double>(*local), 0};
  Failure failure;
  const std::lock_guard lock(mutex());
  if (!batch_->PrepareAtomic(static_cast<ibv_wr_opcode>(*opcode), row, *compare, *swap, &failure)) Throw(env, failure);
}

napi_value WorkBatchObject::Run(napi_env env, napi_callback_info info) {
  WorkBatchObject* self = OwnerOf(env, info, 0, nullptr);
  if (self == nullptr) return nullptr;
  CompletionLoop& loop = *self->loop_;
  std::unique_lock lock(self->mutex());
  const bool started = self->Start();
  // Some devices are that quick. Then there is nothing to wait for, and nobody has to be told.
  if (started && loop.MaySettleAtOnce()) loop.queue().Poll();
  if (started && self->batch_->progress == WorkBatch::Progress::kDone) return nullptr;
  napi_deferred deferred = nullptr;
  napi_value promise = nullptr;
  napi_create_promise(env, &deferred, &promise);
  if (!started) {
    lock.unlock();
    Reject(env, deferred, self->failure_);
    return promise;
  }
  self->deferred_ = deferred;
  // Until it is settled: then nobody else might hold it.
  self->HoldSelf();
  self->batch_->Await();
  loop.Await(self, self->timeout_us_, lock);
  return promise;
}

void WorkBatchObject::Settled() {
  const napi_deferred deferred = std::exchange(deferred_, nullptr);
  if (deferred == nullptr) return;
  if (batch_->progress == WorkBatch::Progress::kDone) {
    napi_resolve_deferred(env_, deferred, Undefined(env_));
  } else {
    Reject(env_, deferred, batch_->failure);
  }
  if (closed_) CloseResource();
  ReleaseSelf();
}

// A run is over for JavaScript only when its promise has been settled, which may be a turn of the loop after the device
// was done.
bool WorkBatchObject::Start() {
  if (deferred_ == nullptr) return batch_->Start(&failure_);
  failure_ = {};
  failure_.code = "QUEUE_FULL";
  failure_.message = "a run of these requests is under way: one at a time";
  failure_.details.peer = pair_->options().peer;
  return false;
}

bool WorkBatchObject::Spin(std::unique_lock<std::mutex>& lock) {
  WorkBatch* batch = batch_.get();
  const auto is_over = [batch] { return batch->progress != WorkBatch::Progress::kPending; };
  if (!loop_->queue().Spin(lock, timeout_us_ * 1000, is_over)) batch->TimeOut(timeout_us_);
  return batch->progress == WorkBatch::Progress::kDone;
}

napi_value WorkBatchObject::RunSync(napi_env env, napi_callback_info info) {
  WorkBatchObject* self = OwnerOf(env, info, 0, nullptr);
  if (self == nullptr) return nullptr;
  std::unique_lock lock(self->mutex());
  const bool started = self->Start();
  if (started && self->Spin(lock)) return nullptr;
  if (started) self->failure_ = self->batch_->failure;
  lock.unlock();
  Throw(env, self->failure_);
  return nullptr;
}

Napi::Value WorkBatchObject::LatencyLoop(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  if (Use(env, info.This(), "this") == nullptr) return {};
  const auto iterations = ReadInteger(env, info[0], "iterations", 1, kMaxIterations);
  if (!iterations) return {};
  Napi::Float64Array samples = Napi::Float64Array::New(env, static_cast<size_t>(*iterations));
  std::vector<uint64_t> stamps(static_cast<size_t>(*iterations) + 1);
  const CycleClock clock;
  std::unique_lock lock(mutex());
  for (size_t index = 0; index + 1 < stamps.size(); ++index) {
    stamps[index] = CycleClock::Now();
    const bool started = Start();
    if (started && Spin(lock)) continue;
    if (started) failure_ = batch_->failure;
    lock.unlock();
    Throw(env, failure_);
    return {};
  }
  stamps.back() = CycleClock::Now();
  lock.unlock();
  const double ns_per_cycle = clock.NsPerCycle();
  for (size_t index = 0; index + 1 < stamps.size(); ++index) {
    samples[index] = static_cast<double>(stamps[index + 1] - stamps[index]) * ns_per_cycle;
  }
  return samples;
}

Napi::Value WorkBatchObject::Capacity(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), batch_ == nullptr ? 0 : batch_->capacity());
}

Napi::Value WorkBatchObject::Busy(const Napi::CallbackInfo& info) {
  if (batch_ == nullptr) return Napi::Boolean::New(info.Env(), false);
  const std::lock_guard lock(mutex());
  // Nobody may have polled since the device was done with it.
  if (batch_->busy()) loop_->queue().Poll();
  return Napi::Boolean::New(info.Env(), batch_->busy());
}

void WorkBatchObject::Close(const Napi::CallbackInfo&) {
  closed_ = true;
  if (deferred_ == nullptr) CloseResource();
}

void WorkBatchObject::CloseResource() noexcept {
  closed_ = true;
  if (batch_ != nullptr) {
    const std::lock_guard lock(mutex());
    batch_->Retire();
  }
  batch_.reset();
  pair_.reset();
  loop_.reset();
}

}  // namespace backdoors::verbs
