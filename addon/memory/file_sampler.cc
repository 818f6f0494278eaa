#include "file_sampler.h"

#include <algorithm>
#include <cerrno>

#include "file_reader.h"
#include "guarded_copy.h"

namespace backdoors::memory {

namespace {

constexpr size_t kTriple = 3;
constexpr uint32_t kPostsPerCheck = 8;
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
      : file_(std::move(file)), mapping_(file_->Mapped()), ranges_(std::move(ranges)), data_(length) {}

  bool Post() noexcept override {
    if (file_->is_closed()) {
      error_ = EBADF;
      return false;
    }
    // In the page in which a file that was cut off ends, copies find zeros: so its length is asked now and then.
    const bool is_copied = mapping_ != nullptr && ++posts_ % kPostsPerCheck != 0 && Copy();
    error_ = is_copied ? 0 : Read();
    return error_ == 0;
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
  // A copy takes a tenth of the time of a system call, which is most of what a round of many peers costs.
  bool Copy() noexcept {
    for (const Range& range : ranges_) {
      if (range.offset > mapping_->length() || range.length > mapping_->length() - range.offset) return false;
      if (!guard_.Copy(data_.data() + range.position, mapping_->data() + range.offset, range.length)) return false;
    }
    return true;
  }

  int Read() noexcept {
    for (const Range& range : ranges_) {
      const int error = file_->Read(range.offset, range.length, data_.data() + range.position);
      if (error != 0) return error;
    }
    return 0;
  }

  const CopyGuard guard_;
  const std::shared_ptr<OpenFile> file_;
  const std::shared_ptr<Mapping> mapping_;
  const std::vector<Range> ranges_;
  std::vector<uint8_t> data_;
  uint32_t posts_ = 0;
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
