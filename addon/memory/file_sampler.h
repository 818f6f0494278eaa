// The class `Sampler` of JavaScript over files.
#pragma once

#include "common/sampler_object.h"

namespace backdoors::memory {

class FileSampler : public SamplerObject<FileSampler> {
 public:
  using SamplerObject::SamplerObject;
  static constexpr napi_type_tag kTypeTag = {0x5e8d21b47fca4093u, 0xa47710cbe26d3f58u};
  // A FileReader, and [offset, length, position] triples.
  static constexpr size_t kSourceArguments = 2;
  static std::shared_ptr<SampleSource> MakeSource(napi_env env, const napi_value* arguments);
};

}  // namespace backdoors::memory
