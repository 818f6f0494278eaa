// The target *memory*; src/native/memory.ts states its surface.
#include <napi.h>
#include <sys/mman.h>
#include <unistd.h>

#include "beat_thread.h"
#include "common/arguments.h"
#include "common/clock.h"
#include "common/initialize.h"
#include "crc32c_functions.h"
#include "file_lock.h"
#include "file_reader.h"
#include "file_sampler.h"
#include "filled_pages.h"
#include "shared_memory.h"

namespace backdoors::memory {

namespace {

Napi::Value MonotonicUs(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), ToUs(MonotonicNs())); }

// writeMonotonicMs(into): for each commit, hence the bare Node-API. A time that is returned would be an object on the
// heap; one that is written into the caller's array is none.
napi_value WriteMonotonicMs(napi_env env, napi_callback_info info) {
  napi_value into;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &into, nullptr, nullptr);
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, into, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length == 0) {
    ThrowInvalidArgument(env, "into", "has to be a Float64Array of at least one element");
    return nullptr;
  }
  *static_cast<double*>(data) = ToUs(MonotonicNs()) / 1000.0;
  return nullptr;
}

// Memory that much is about to be read into: fewer, larger pages, where the kernel has them, are given faster. Only advice.
void AdviseHugePages(const Napi::CallbackInfo& info) {
  const auto bytes = ReadBytes(info.Env(), info[0], "bytes");
  if (!bytes) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(bytes->data()) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(bytes->data()) + bytes->size()) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  if (!InitializeTarget(env, exports)) return exports;
  DefineCrc32c(env, exports);
  DefineFilledPages(env, exports);
  DefineFileLock(env, exports);
  exports.Set("monotonicUs", Napi::Function::New<MonotonicUs>(env, "monotonicUs"));
  exports.Set("adviseHugePages", Napi::Function::New<AdviseHugePages>(env, "adviseHugePages"));
  napi_value write_monotonic_ms = nullptr;
  napi_create_function(env, "writeMonotonicMs", NAPI_AUTO_LENGTH, WriteMonotonicMs, nullptr, &write_monotonic_ms);
  exports.Set("writeMonotonicMs", Napi::Value(env, write_monotonic_ms));
  exports.Set(SharedMemory::kName, SharedMemory::Define(env));
  exports.Set(FileReader::kName, FileReader::Define(env));
  exports.Set(BeatThread::kName, BeatThread::Define(env));
  exports.Set(FileSampler::kName, FileSampler::Define(env));
  return exports;
}

NODE_API_MODULE(memory, Initialize)

}  // namespace

}  // namespace backdoors::memory
