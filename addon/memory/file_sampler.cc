#include "file_sampler.h"

#include <algorithm>
#include <cerrno>

#include "file_reader.h"

namespace backdoors::memory {

namespace {

constexpr size_t kTriple = 3;
constexpr double kMaxSampledBytes = 1 << 24;

struct Range {
  uint64_t offset;
  size_t length;
  // In the bytes that were read.
  size_t position;
};

// Reading a file takes no time worth overlapping: it is done when it is posted.
class FileSource : public SampleSource {
 public:
  FileSource(std::shared_ptr<OpenFile> file, std::vector<Range> ranges, size_t length)
      : file_(std::move(file)), ranges_(std::move(ranges)), data_(length) {}

  bool Post() noexcept override {
    error_ = 0;
    for (const Range& range : ranges_) {
      error_ = file_->Read(range.offset, range.length, data_.data() + range.position);
      if (error_ != 0) return false;
    }
    return true;
  }

  Progress Poll() noexcept override { return Progress::kDone; }
  bool is_immediate() const noexcept override { return true; }

  const char* status() const noexcept override {
    switch (error_) {
      case EBADF: return "CLOSED";
      case ENODATA: return "MEMORY_LOST";
      default: return "SYSTEM_CALL_FAILED";
    }
  }

  const uint8_t* data() const noexcept override { return data_.data(); }
  size_t length() const noexcept override { return data_.size(); }

  uint64_t OffsetAt(size_t position) const noexcept override {
    for (const Range& range : ranges_) {
      if (position >= range.position && position - range.position < range.length) {
        return range.offset + (position - range.position);
      }
    }
    return UINT64_MAX;
  }

 private:
  const std::shared_ptr<OpenFile> file_;
  const std::vector<Range> ranges_;
  std::vector<uint8_t> data_;
  int error_ = 0;
};

}  // namespace

std::shared_ptr<SampleSource> FileSampler::MakeSource(napi_env env, const napi_value* arguments) {
  FileReader* reader = FileReader::From(env, arguments[0], "source");
  if (reader == nullptr) return nullptr;
  const auto triples = ReadDoubles(env, arguments[1], "triples");
  if (!triples) return nullptr;
  const size_t count = triples->size() / kTriple;
  if (!CheckGroups(env, *triples, kTriple, count, "triples")) return nullptr;
  std::vector<Range> ranges;
  size_t length = 0;
  for (size_t index = 0; index < count; ++index) {
    const double* triple = triples->data() + index * kTriple;
    if (triple[1] + triple[2] > kMaxSampledBytes) {
      ThrowInvalidArgument(env, "triples", "At most 16 MiB can be sampled at once.");
      return nullptr;
    }
    ranges.push_back({static_cast<uint64_t>(triple[0]), static_cast<size_t>(triple[1]), static_cast<size_t>(triple[2])});
    length = std::max(length, ranges.back().position + ranges.back().length);
  }
  if (reader->file() == nullptr) {
    ThrowError(env, "CLOSED", "The reader to sample has been closed.");
    return nullptr;
  }
  return std::make_shared<FileSource>(reader->file(), std::move(ranges), length);
}

}  // namespace backdoors::memory
