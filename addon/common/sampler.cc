#include "sampler.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>

#include "clock.h"

namespace backdoors {

namespace {

// A due time nearer than this is awaited by looking at the clock: going to sleep and waking up takes as long.
constexpr uint64_t kSpinNs = 50'000;
// Delays of the thread up to this are the ordinary jitter of any schedule; beyond, the thread was late.
constexpr uint64_t kJitterNs = 100'000;
// How long the thread sleeps at most while a read does not come back.
constexpr uint64_t kMaxNapNs = 1'000'000;

}  // namespace

int64_t Sampler::Add(SamplePlan plan) {
  const uint32_t id = next_id_;
  auto target = std::make_shared<SampledTarget>(id, std::move(plan), &events_);
  if (!thread_.is_running()) {
    const int error = thread_.Start("bd-sampler", [this] { Run(); });
    if (error != 0) return -error;
  }
  ++next_id_;
  by_id_.emplace(id, std::move(target));
  Publish();
  return id;
}

const SampledTarget* Sampler::Find(uint32_t target) const {
  const auto found = by_id_.find(target);
  return found == by_id_.end() ? nullptr : found->second.get();
}

void Sampler::Update(uint32_t target, SamplePlan plan) {
  by_id_.at(target)->Update(std::move(plan));
  Publish();
}

void Sampler::Remove(uint32_t target) {
  const auto found = by_id_.find(target);
  if (found == by_id_.end()) return;
  found->second->Remove();
  by_id_.erase(found);
  Publish();
}

void Sampler::Publish() {
  {
    const std::lock_guard lock(mutex_);
    targets_.clear();
    for (const auto& [id, target] : by_id_) targets_.push_back(target);
    generation_.fetch_add(1, std::memory_order_release);
  }
  changed_.notify_one();
}

std::vector<SamplerEvent> Sampler::TakeEvents() {
  std::vector<SamplerEvent> events;
  events_.Drain(&events);
  std::erase_if(events, [this](const SamplerEvent& event) { return !by_id_.contains(event.target); });
  return events;
}

void Sampler::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_.store(true, std::memory_order_relaxed);
  }
  changed_.notify_one();
  thread_.Join();
  slots_.clear();
  targets_.clear();
  by_id_.clear();
}

void Sampler::Run() {
  // Without this a sleeping thread is woken up to 50 µs late, to save power.
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  expected_ns_ = MonotonicNs();
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (generation_.load(std::memory_order_acquire) != taken_generation_) TakeTargets();
    PostDue();
    PollRunning();
    const uint64_t now_ns = LookAtClock().at_ns;
    const uint64_t wake_ns = NextWakeNs(now_ns);
    if (wake_ns > now_ns + kSpinNs) WaitUntil(wake_ns);
  }
}

Moment Sampler::LookAtClock() {
  const uint64_t now_ns = MonotonicNs();
  const uint64_t lateness_ns = now_ns > expected_ns_ ? now_ns - expected_ns_ : 0;
  if (lateness_ns > kJitterNs) late_ns_ += lateness_ns;
  expected_ns_ = now_ns;
  return {now_ns, late_ns_};
}

void Sampler::TakeTargets() {
  std::vector<std::shared_ptr<SampledTarget>> targets;
  {
    const std::lock_guard lock(mutex_);
    targets = targets_;
    taken_generation_ = generation_.load(std::memory_order_relaxed);
  }
  for (Slot& slot : slots_) {
    slot.is_removed = std::find(targets.begin(), targets.end(), slot.target) == targets.end();
    std::erase(targets, slot.target);
  }
  // A removed target is kept until its read has ended.
  std::erase_if(slots_, [](const Slot& slot) { return slot.is_removed && slot.running == nullptr; });
  const Moment now = LookAtClock();
  // An update may have shortened the interval.
  for (Slot& slot : slots_) slot.due_ns = std::min(slot.due_ns, now.at_ns + slot.target->interval_ns());
  for (auto& target : targets) {
    target->Begin(now);
    slots_.push_back({.target = std::move(target), .due_ns = now.at_ns, .free_ns = now.at_ns});
  }
}

// All reads that are due are posted before any is awaited, so that their round trips overlap.
void Sampler::PostDue() {
  for (Slot& slot : slots_) {
    if (slot.running != nullptr || slot.is_removed) continue;
    const Moment now = LookAtClock();
    if (slot.due_ns > now.at_ns) continue;
    auto source = slot.target->source();
    if (source != nullptr) Post(&slot, now, std::move(source));
  }
}

void Sampler::Post(Slot* slot, Moment now, std::shared_ptr<SampleSource> source) {
  const uint64_t interval_ns = slot->target->interval_ns();
  slot->lateness_ns = now.at_ns - std::max(slot->due_ns, slot->free_ns);
  // Times that were missed altogether are not made up for.
  slot->due_ns = std::max(slot->due_ns + interval_ns, now.at_ns + 1);
  slot->posted = now;
  slot->running = std::move(source);
  if (!slot->running->Post() && Finish(slot, SampleSource::Progress::kFailed)) wake_();
}

void Sampler::PollRunning() {
  bool wake = false;
  bool ended = false;
  for (Slot& slot : slots_) {
    if (slot.running == nullptr) continue;
    const SampleSource::Progress progress = slot.running->Poll();
    if (progress != SampleSource::Progress::kPending) {
      wake |= Finish(&slot, progress);
      ended |= slot.is_removed;
    } else if (!slot.is_removed) {
      wake |= slot.target->StillPending(LookAtClock());
    }
  }
  if (ended) std::erase_if(slots_, [](const Slot& slot) { return slot.is_removed && slot.running == nullptr; });
  if (wake) wake_();
}

bool Sampler::Finish(Slot* slot, SampleSource::Progress progress) {
  const std::shared_ptr<SampleSource> source = std::move(slot->running);
  slot->running = nullptr;
  const Moment now = LookAtClock();
  slot->free_ns = now.at_ns;
  if (slot->is_removed) return false;
  if (progress == SampleSource::Progress::kDone) {
    return slot->target->Succeeded(source.get(), slot->posted, now, slot->lateness_ns);
  }
  return slot->target->Failed(source->status(), now, slot->lateness_ns);
}

uint64_t Sampler::NextWakeNs(uint64_t now_ns) const {
  uint64_t wake_ns = UINT64_MAX;
  for (const Slot& slot : slots_) {
    if (slot.running == nullptr) {
      wake_ns = std::min(wake_ns, slot.due_ns);
    } else {
      // A round trip is short or it is not: naps grow with the time waited so far, so that a dead peer, whose reads
      // take seconds to fail, does not cost a processor.
      const uint64_t waited_ns = now_ns - slot.posted.at_ns;
      wake_ns = std::min(wake_ns, now_ns + std::min(waited_ns / 4, kMaxNapNs));
    }
  }
  return wake_ns;
}

void Sampler::WaitUntil(uint64_t wake_ns) {
  const auto has_news = [this] {
    return stopping_.load(std::memory_order_relaxed) ||
           generation_.load(std::memory_order_relaxed) != taken_generation_;
  };
  std::unique_lock lock(mutex_);
  if (wake_ns == UINT64_MAX) {
    changed_.wait(lock, has_news);
    expected_ns_ = MonotonicNs();
    return;
  }
  // An absolute time of the monotonic clock: what the round took does not shift the next one.
  const auto wake = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(wake_ns));
  changed_.wait_until(lock, wake, has_news);
  expected_ns_ = std::max(expected_ns_, wake_ns);
}

}  // namespace backdoors
