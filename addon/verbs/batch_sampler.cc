#include "batch_sampler.h"

#include "work_batch_object.h"

namespace backdoors::verbs {

bool BatchSource::Post() noexcept {
  const auto lock = pair_->queue().LockSoon();
  return batch_->Start(&failure_);
}

SampleSource::Progress BatchSource::Poll() noexcept {
  const auto lock = pair_->queue().LockSoon();
  pair_->queue().Poll();
  switch (batch_->progress) {
    case WorkBatch::Progress::kPending:
      return Progress::kPending;
    case WorkBatch::Progress::kDone:
      return Progress::kDone;
    default:
      failure_ = batch_->failure;
      return Progress::kFailed;
  }
}

uint64_t BatchSource::OffsetAt(size_t position) const noexcept {
  const std::lock_guard lock(pair_->queue().mutex());
  return batch_->OffsetAt(position);
}

std::shared_ptr<SampleSource> BatchSampler::MakeSource(napi_env env, const napi_value* arguments) {
  const WorkBatchObject* object = WorkBatchObject::Use(env, arguments[0], "batch");
  if (object == nullptr) return nullptr;
  return std::make_shared<BatchSource>(object->batch(), object->pair());
}

}  // namespace backdoors::verbs
