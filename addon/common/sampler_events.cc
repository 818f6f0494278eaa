#include "sampler_events.h"

#include <algorithm>

namespace backdoors {

namespace {

bool IsOfCell(const SamplerEvent& event) {
  return event.kind == SamplerEventKind::kStalled || event.kind == SamplerEventKind::kMoved;
}

bool IsSameEdge(const SamplerEvent& left, const SamplerEvent& right) {
  if (left.target != right.target || IsOfCell(left) != IsOfCell(right)) return false;
  return !IsOfCell(left) || left.cell == right.cell;
}

}  // namespace

bool SamplerEventQueue::Push(const SamplerEvent& event) {
  const std::lock_guard lock(mutex_);
  const bool was_empty = events_.empty();
  if (events_.size() >= capacity_) {
    std::erase_if(events_, [&event](const SamplerEvent& older) { return IsSameEdge(older, event); });
  }
  events_.push_back(event);
  return was_empty;
}

void SamplerEventQueue::Drain(std::vector<SamplerEvent>* events) {
  const std::lock_guard lock(mutex_);
  events->insert(events->end(), events_.begin(), events_.end());
  events_.clear();
}

void SamplerEventQueue::Renumber(uint32_t target, const std::vector<int64_t>& new_index) {
  const std::lock_guard lock(mutex_);
  const auto is_gone = [&](const SamplerEvent& event) {
    return event.target == target && IsOfCell(event) && new_index[event.cell] < 0;
  };
  std::erase_if(events_, is_gone);
  for (SamplerEvent& event : events_) {
    if (event.target == target && IsOfCell(event)) event.cell = static_cast<uint32_t>(new_index[event.cell]);
  }
}

}  // namespace backdoors
