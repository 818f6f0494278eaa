#include "summed_read.h"

#include <algorithm>
#include <cerrno>
#include <span>

#include "guarded_copy.h"

namespace backdoors::memory {

namespace {

// In so many turns all is read, or, since a turn's parts are rounded down, in up to twice as many: few enough that taking one costs nothing, so many that nobody waits long for the last.
constexpr size_t kTurns = 32;

}  // namespace

SummedRead::SummedRead(std::shared_ptr<OpenFile> file, std::vector<FilePart> parts, uint8_t* target, const PartSums& sums)
    : file_(std::move(file)),
      parts_(std::move(parts)),
      target_(target),
      sums_(sums),
      mapping_(file_->MappedFor(parts_)),
      parts_at_a_time_(std::max<size_t>(1, parts_.size() / kTurns)) {}

void SummedRead::Work() {
  // Those of each turn then find SIGBUS taken care of, and cost no system call.
  const CopyGuard guard;
  const std::span<const FilePart> all(parts_);
  while (error_.load(std::memory_order_relaxed) == 0) {
    const size_t first = next_.fetch_add(parts_at_a_time_, std::memory_order_relaxed);
    if (first >= all.size()) return;
    const auto parts = all.subspan(first, std::min(parts_at_a_time_, all.size() - first));
    const PartSums sums = {sums_.skip, sums_.seed, sums_.crcs + first};
    const int error = file_->is_closed() ? EBADF : file_->ReadSummed(parts, mapping_.get(), target_, sums);
    int none = 0;
    if (error != 0) error_.compare_exchange_strong(none, error, std::memory_order_relaxed);
  }
}

int SummedRead::Result() const {
  const int error = error_.load(std::memory_order_relaxed);
  return error != 0 || mapping_ == nullptr ? error : file_->CheckWhole(parts_);
}

}  // namespace backdoors::memory
