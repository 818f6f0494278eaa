// The target *memory*; src/native/memory.ts states its surface.
#include <napi.h>

#include "beat_thread.h"
#include "common/clock.h"
#include "common/initialize.h"
#include "crc32c_functions.h"
#include "file_reader.h"
#include "file_sampler.h"
#include "shared_memory.h"

namespace backdoors::memory {

namespace {

Napi::Value MonotonicUs(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), ToUs(MonotonicNs())); }

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  if (!InitializeTarget(env, exports)) return exports;
  DefineCrc32c(env, exports);
  exports.Set("monotonicUs", Napi::Function::New<MonotonicUs>(env, "monotonicUs"));
  exports.Set(SharedMemory::kName, SharedMemory::Define(env));
  exports.Set(FileReader::kName, FileReader::Define(env));
  exports.Set(BeatThread::kName, BeatThread::Define(env));
  exports.Set(FileSampler::kName, FileSampler::Define(env));
  return exports;
}

NODE_API_MODULE(memory, Initialize)

}  // namespace

}  // namespace backdoors::memory
