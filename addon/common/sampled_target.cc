#include "sampled_target.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace backdoors {

namespace {

constexpr uint64_t kNone = UINT64_MAX;
// Of the latest round trip in their mean, as TCP weighs its own (RFC 6298).
constexpr double kRoundTripWeight = 0.125;

static_assert(std::endian::native == std::endian::little, "cells are little-endian, as all of the region");

uint32_t LoadWord(const uint8_t* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

SampledTarget::SampledTarget(uint32_t id, SamplePlan plan, SamplerEventQueue* events)
    : id_(id), events_(events), plan_(std::move(plan)), history_(NewHistory(plan_)) {}

std::vector<SampledTarget::CellHistory> SampledTarget::NewHistory(const SamplePlan& plan) {
  std::vector<CellHistory> history;
  history.reserve(plan.cells.size());
  for (const SampledCell& cell : plan.cells) {
    const uint64_t pending = cell.pending_position < 0
                                 ? kNone
                                 : plan.source->OffsetAt(static_cast<size_t>(cell.pending_position));
    history.push_back({plan.source->OffsetAt(cell.counter_position), pending});
  }
  return history;
}

std::shared_ptr<SampleSource> SampledTarget::source() const {
  const std::lock_guard lock(mutex_);
  return plan_.source;
}

uint64_t SampledTarget::interval_ns() const {
  const std::lock_guard lock(mutex_);
  return plan_.interval_ns;
}

void SampledTarget::Update(SamplePlan plan) {
  std::vector<CellHistory> history = NewHistory(plan);
  const std::lock_guard lock(mutex_);
  std::vector<int64_t> new_index(history_.size(), -1);
  for (size_t index = 0; index < history.size(); ++index) {
    const auto is_same = [&](const CellHistory& old) {
      return old.counter_offset == history[index].counter_offset && old.pending_offset == history[index].pending_offset;
    };
    const auto old = std::find_if(history_.begin(), history_.end(), is_same);
    if (old == history_.end()) continue;
    history[index] = *old;
    new_index[static_cast<size_t>(old - history_.begin())] = static_cast<int64_t>(index);
  }
  history_ = std::move(history);
  plan_ = std::move(plan);
  events_->Renumber(id_, new_index);
}

void SampledTarget::Begin(Moment now) {
  const std::lock_guard lock(mutex_);
  last_success_ = now;
}

void SampledTarget::Remove() {
  const std::lock_guard lock(mutex_);
  plan_.source = nullptr;
}

TargetReport SampledTarget::Report() const {
  const std::lock_guard lock(mutex_);
  TargetReport report = report_;
  report.cells.reserve(history_.size());
  for (const CellHistory& cell : history_) {
    report.cells.push_back({cell.counter, cell.pending, cell.age_ns, cell.stalled});
  }
  return report;
}

void SampledTarget::CountRound(uint64_t lateness_ns) {
  ++report_.rounds;
  report_.max_lateness_ns = std::max(report_.max_lateness_ns, lateness_ns);
  histograms_.lateness.Count(lateness_ns);
}

bool SampledTarget::Succeeded(const SampleSource* source, Moment posted, Moment completed, uint64_t lateness_ns) {
  const std::lock_guard lock(mutex_);
  // A read that was posted before an update says nothing of the cells as they are now.
  if (source != plan_.source.get()) return false;
  CountRound(lateness_ns);
  const auto round_trip = static_cast<double>(completed.at_ns - posted.at_ns);
  report_.last_round_trip_ns = completed.at_ns - posted.at_ns;
  histograms_.round_trips.Count(report_.last_round_trip_ns);
  const bool is_first = report_.rounds - report_.failed_rounds == 1;
  report_.mean_round_trip_ns += (is_first ? 1 : kRoundTripWeight) * (round_trip - report_.mean_round_trip_ns);
  const bool was_unreachable = !report_.reachable;
  bool wake = false;
  if (was_unreachable) {
    report_.reachable = true;
    wake = events_->Push({SamplerEventKind::kReachable, id_, 0, 0, 0, completed.at_ns, nullptr});
  }
  last_success_ = completed;
  failure_ = nullptr;
  for (uint32_t index = 0; index < history_.size(); ++index) {
    wake |= Look(index, source->data(), posted, completed, was_unreachable);
  }
  return wake;
}

bool SampledTarget::Look(uint32_t index, const uint8_t* data, Moment posted, Moment completed, bool anew) {
  const SampledCell& cell = plan_.cells[index];
  CellHistory& history = history_[index];
  const uint32_t counter = LoadWord(data + cell.counter_position);
  const bool has_pending = cell.pending_position >= 0;
  const uint32_t pending = has_pending ? LoadWord(data + cell.pending_position) : 1;
  const bool is_idle = has_pending && pending == 0;
  const bool has_moved = !history.seen || counter != history.counter;
  const bool was_idle = history.seen && history.pending == 0;
  if (history.seen && has_moved && !was_idle && !anew) histograms_.ages.Count(history.age_ns);
  history.seen = true;
  history.counter = counter;
  history.pending = pending;
  // Work that is seen for the first time may have come just now.
  if (has_moved || is_idle || was_idle || anew) history.changed = completed;
  history.age_ns = posted.Since(history.changed);
  if (history.stalled && (has_moved || is_idle)) {
    history.stalled = false;
    return events_->Push({SamplerEventKind::kMoved, id_, index, counter, 0, completed.at_ns, nullptr});
  }
  if (!history.stalled && history.age_ns >= cell.deadline_ns) {
    history.stalled = true;
    const uint64_t since_ns = history.changed.at_ns;
    return events_->Push({SamplerEventKind::kStalled, id_, index, counter, since_ns, completed.at_ns, nullptr});
  }
  return false;
}

bool SampledTarget::Failed(const char* status, Moment now, uint64_t lateness_ns) {
  const std::lock_guard lock(mutex_);
  CountRound(lateness_ns);
  ++report_.failed_rounds;
  if (failure_ == nullptr) failure_ = status;
  return CheckReachable(now);
}

bool SampledTarget::StillPending(Moment now) {
  const std::lock_guard lock(mutex_);
  return CheckReachable(now);
}

bool SampledTarget::CheckReachable(Moment now) {
  if (plan_.source == nullptr || !report_.reachable || now.Since(last_success_) < plan_.unreachable_after_ns) {
    return false;
  }
  report_.reachable = false;
  const char* status = failure_ == nullptr ? "TIMEOUT" : failure_;
  return events_->Push({SamplerEventKind::kUnreachable, id_, 0, 0, last_success_.at_ns, now.at_ns, status});
}

}  // namespace backdoors
