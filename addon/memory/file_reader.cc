#include "file_reader.h"

#include <cerrno>
#include <cmath>

namespace backdoors::memory {

namespace {

constexpr size_t kTriple = 3;

bool IsWhole(double number) {
  return number >= 0 && number <= static_cast<double>(kMaxSafeInteger) && number == std::trunc(number);
}

}  // namespace

bool CheckGroups(napi_env env, std::span<const double> doubles, size_t stride, size_t count, const char* name) {
  if (count > doubles.size() / stride) {
    ThrowInvalidArgument(env, name, std::string(name) + " holds fewer than " + std::to_string(count) + " ranges.");
    return false;
  }
  for (const double number : doubles.first(count * stride)) {
    if (IsWhole(number)) continue;
    ThrowInvalidArgument(env, name, std::string(name) + " must hold whole numbers from 0 to 2^53 - 1.");
    return false;
  }
  return true;
}

Napi::Function FileReader::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {
                         InstanceAccessor<&FileReader::Path>("path"),
                         InstanceAccessor<&FileReader::Writable>("writable"),
                         InstanceMethod<&FileReader::Length>("length"),
                         InstanceMethod<&FileReader::Read>("read"),
                         InstanceMethod<&FileReader::ReadSummed>("readSummed"),
                         InstanceMethod<&FileReader::BeginSummed>("beginSummed"),
                         InstanceMethod<&FileReader::EndSummed>("endSummed"),
                         InstanceMethod<&FileReader::Write>("write"),
                         InstanceMethod<&FileReader::CompareAndSwap>("compareAndSwap"),
                         InstanceMethod<&FileReader::Close>("close"),
                     });
}

FileReader::FileReader(const Napi::CallbackInfo& info) : Wrapped(info) {
  auto path = ReadString(info.Env(), info[0], "path", kMaxPathBytes);
  if (!path) return;
  path_ = std::move(*path);
  Failure failure;
  file_ = OpenFile::Open(path_, &failure);
  if (file_ == nullptr) {
    failure.Throw(info.Env());
    return;
  }
  Tag(info);
}

void FileReader::CloseResource() noexcept {
  helper_.Stop();
  summed_ = nullptr;
  file_ = nullptr;
}

void FileReader::Close(const Napi::CallbackInfo&) {
  // Told apart from mere garbage: a sampler that reads on behalf of a reader nobody holds any more goes on.
  if (file_ != nullptr) file_->Close();
  CloseResource();
  target_.Reset();
  crcs_.Reset();
}

bool FileReader::CheckOpen(napi_env env) {
  if (file_ != nullptr) return true;
  ThrowError(env, "CLOSED", "The reader of " + path_ + " has been closed.", {.path = path_});
  return false;
}

void FileReader::ThrowFailed(napi_env env, const char* call, int error, const char* doing, uint64_t offset,
                             uint64_t length) {
  Failure failure = Failure::Call(call, error, std::string(doing) + " " + path_, path_);
  if (error == ENODATA) {
    failure.code = "OUT_OF_RANGE";
    failure.message = std::string(doing) + " " + path_ + ": " + std::to_string(length) + " bytes at " +
                      std::to_string(offset) + " reach past the file's end.";
    failure.details = {.path = path_};
  }
  failure.details.offset = offset;
  failure.details.length = length;
  failure.Throw(env);
}

Napi::Value FileReader::Path(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), path_); }

Napi::Value FileReader::Writable(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), file_ != nullptr && file_->writable());
}

Napi::Value FileReader::Length(const Napi::CallbackInfo& info) {
  if (!CheckOpen(info.Env())) return {};
  uint64_t length = 0;
  const int error = file_->Length(&length);
  if (error != 0) {
    Failure::Call("fstat", error, "Measuring " + path_, path_).Throw(info.Env());
    return {};
  }
  return Napi::Number::New(info.Env(), static_cast<double>(length));
}

// The first three arguments: triples, count, target. False after throwing.
bool FileReader::ReadParts(const Napi::CallbackInfo& info, uint8_t** target) {
  const napi_env env = info.Env();
  const auto triples = ReadDoubles(env, info[0], "triples");
  if (!triples) return false;
  const auto count = ReadInteger(env, info[1], "count", 0, UINT32_MAX);
  if (!count) return false;
  const auto bytes = ReadBytes(env, info[2], "target");
  if (!bytes || !CheckOpen(env)) return false;
  const auto groups = static_cast<size_t>(*count);
  if (!CheckGroups(env, *triples, kTriple, groups, "triples")) return false;
  const auto size = static_cast<double>(bytes->size());
  parts_.resize(groups);
  for (size_t index = 0; index < groups; ++index) {
    const double* triple = triples->data() + index * kTriple;
    if (triple[1] > size || triple[2] > size - triple[1]) {
      ThrowInvalidArgument(env, "target", "A range does not fit into the target of " + std::to_string(bytes->size()) + " bytes.");
      return false;
    }
    parts_[index] = {static_cast<uint64_t>(triple[0]), static_cast<size_t>(triple[1]), static_cast<size_t>(triple[2])};
  }
  *target = bytes->data();
  return true;
}

Napi::Value FileReader::Read(const Napi::CallbackInfo& info) {
  uint8_t* target = nullptr;
  if (!ReadParts(info, &target)) return {};
  return Napi::Number::New(info.Env(), file_->ReadMany(parts_, target));
}

// The arguments of readSummed: those of read, and three more. False after throwing.
bool FileReader::ReadSums(const Napi::CallbackInfo& info, uint8_t** target, PartSums* sums) {
  const napi_env env = info.Env();
  const auto skip = ReadInteger(env, info[3], "skip", 0, kMaxSafeInteger);
  if (!skip) return false;
  const auto seed = ReadInteger(env, info[4], "seed", INT32_MIN, INT32_MAX);
  if (!seed) return false;
  const auto crcs = ReadSignedWords(env, info[5], "crcs");
  if (!crcs || !ReadParts(info, target)) return false;
  if (parts_.size() > crcs->size()) {
    ThrowInvalidArgument(env, "crcs", "crcs holds fewer than " + std::to_string(parts_.size()) + " words.");
    return false;
  }
  *sums = {static_cast<size_t>(*skip), static_cast<uint32_t>(*seed), crcs->data()};
  return true;
}

Napi::Value FileReader::ReadSummed(const Napi::CallbackInfo& info) {
  uint8_t* target = nullptr;
  PartSums sums = {};
  if (!ReadSums(info, &target, &sums)) return {};
  return Napi::Number::New(info.Env(), file_->ReadMany(parts_, target, &sums));
}

void FileReader::BeginSummed(const Napi::CallbackInfo& info) {
  uint8_t* target = nullptr;
  PartSums sums = {};
  if (!ReadSums(info, &target, &sums)) return;
  if (summed_ != nullptr) {
    ThrowInvalidArgument(info.Env(), "this", "A read of " + path_ + " has been begun, and not ended.");
    return;
  }
  target_ = Napi::Reference<Napi::Value>::New(info[2], 1);
  crcs_ = Napi::Reference<Napi::Value>::New(info[5], 1);
  summed_ = std::make_unique<SummedRead>(file_, parts_, target, sums);
  helper_.Offer([read = summed_.get()] { read->Work(); });
}

Napi::Value FileReader::EndSummed(const Napi::CallbackInfo& info) {
  if (!CheckOpen(info.Env())) return {};
  if (summed_ == nullptr) {
    ThrowInvalidArgument(info.Env(), "this", "No read of " + path_ + " has been begun.");
    return {};
  }
  summed_->Work();
  helper_.Withdraw();
  const int error = summed_->Result();
  summed_ = nullptr;
  target_.Reset();
  crcs_.Reset();
  return Napi::Number::New(info.Env(), error);
}

void FileReader::Write(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  const auto offset = ReadInteger(env, info[0], "offset", 0, kMaxSafeInteger);
  if (!offset) return;
  const auto bytes = ReadBytes(env, info[1], "bytes");
  if (!bytes || !CheckOpen(env)) return;
  if (!file_->writable()) {
    ThrowError(env, "READ_ONLY", path_ + " may not be written.", {.path = path_});
    return;
  }
  const auto at = static_cast<uint64_t>(*offset);
  const int error = file_->Write(at, bytes->size(), bytes->data());
  if (error != 0) ThrowFailed(env, "pwrite", error, "Writing", at, bytes->size());
}

bool FileReader::ReadWordOffset(const Napi::CallbackInfo& info, uint64_t* offset) {
  const napi_env env = info.Env();
  const auto at = ReadInteger(env, info[0], "offset", 0, kMaxSafeInteger);
  if (!at) return false;
  *offset = static_cast<uint64_t>(*at);
  if (*offset % sizeof(uint64_t) == 0) return true;
  ThrowError(env, "UNALIGNED", "Compare-and-swap needs an offset that is a multiple of 8, not " + std::to_string(*at) + ".",
             {.offset = *offset, .length = sizeof(uint64_t), .path = path_});
  return false;
}

Napi::Value FileReader::CompareAndSwap(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  uint64_t offset = 0;
  if (!ReadWordOffset(info, &offset)) return {};
  const auto expected = ReadUint64(env, info[1], "expected");
  if (!expected) return {};
  const auto desired = ReadUint64(env, info[2], "desired");
  if (!desired || !CheckOpen(env)) return {};
  if (!file_->writable()) {
    ThrowError(env, "READ_ONLY", path_ + " may not be written.", {.path = path_});
    return {};
  }
  uint64_t word = *expected;
  const int error = file_->CompareAndSwap(offset, *desired, &word);
  if (error != 0) {
    ThrowFailed(env, "mmap", error, "Compare-and-swap in", offset, sizeof word);
    return {};
  }
  napi_value before = nullptr;
  napi_create_bigint_uint64(env, word, &before);
  return {env, before};
}

}  // namespace backdoors::memory
