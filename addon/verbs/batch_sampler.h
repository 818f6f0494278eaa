// `VerbsSampler` of src/native/verbs.ts: the sampler's thread, which runs batches.
#pragma once

#include <memory>

#include "common/sampler_object.h"
#include "work_batch.h"

namespace backdoors::verbs {

// A batch as the sampler's thread runs it. Its queue pair does not end while this exists.
class BatchSource : public SampleSource {
 public:
  BatchSource(std::shared_ptr<WorkBatch> batch, std::shared_ptr<QueuePair> pair)
      : batch_(std::move(batch)), pair_(std::move(pair)) {}

  bool Post() noexcept override;
  Progress Poll() noexcept override;
  const char* status() const noexcept override { return failure_.code; }
  const uint8_t* data() const noexcept override { return batch_->region().data(); }
  size_t length() const noexcept override { return batch_->region().length(); }
  uint64_t OffsetAt(size_t position) const noexcept override;

 private:
  std::shared_ptr<WorkBatch> batch_;
  std::shared_ptr<QueuePair> pair_;
  Failure failure_;
};

class BatchSampler : public SamplerObject<BatchSampler> {
 public:
  using SamplerObject::SamplerObject;
  static constexpr napi_type_tag kTypeTag = {0xa95e08cf17d34b26, 0xd7412fb36ec0895a};
  static constexpr size_t kSourceArguments = 1;
  // Null after throwing.
  static std::shared_ptr<SampleSource> MakeSource(napi_env env, const napi_value* arguments);
};

}  // namespace backdoors::verbs
