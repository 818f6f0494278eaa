// The target *verbs*; src/native/verbs.ts states its surface.
#include <infiniband/verbs.h>
#include <napi.h>

#include <mutex>

#include "common/initialize.h"
#include "batch_sampler.h"
#include "completion_queue_object.h"
#include "context_object.h"
#include "device_attributes.h"
#include "memory_region_object.h"
#include "protection_domain_object.h"
#include "queue_pair_object.h"
#include "work_batch_object.h"

namespace backdoors::verbs {

namespace {

// A child of a fork would share the pages the device writes into, and copy-on-write could give the device's pages to
// the child. Kernels from 5.12 on take care of that by themselves, which the library knows; on older ones this keeps
// registered memory out of children. It has to come before any other verbs call of the process.
void PrepareForForks() {
  static std::once_flag once;
  std::call_once(once, [] { ibv_fork_init(); });
}

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  if (!InitializeTarget(env, exports)) return exports;
  PrepareForForks();
  exports.Set("devices", Napi::Function::New<ListDevices>(env, "devices"));
  exports.Set("Context", ContextObject::Define(env));
  exports.Set("ProtectionDomain", ProtectionDomainObject::Define(env));
  exports.Set("MemoryRegion", MemoryRegionObject::Define(env));
  exports.Set("CompletionQueue", CompletionQueueObject::Define(env));
  exports.Set("QueuePair", QueuePairObject::Define(env));
  exports.Set("WorkBatch", WorkBatchObject::Define(env));
  exports.Set("Sampler", BatchSampler::Define(env));
  return exports;
}

NODE_API_MODULE(verbs, Initialize)

}  // namespace

}  // namespace backdoors::verbs
