#include "sampler.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "clock.h"

namespace backdoors {

namespace {

// Targets with shorter intervals are awaited by looking at the clock, and so is whatever comes so soon while reads are
// under way: going to sleep and waking up takes as long.
constexpr uint64_t kSpinNs = 50'000;
// Otherwise only due times nearer than this are: less than the system calls of a sleep take.
constexpr uint64_t kShortSpinNs = 5'000;
// Delays of the thread up to this are the ordinary jitter of any schedule; beyond, the thread was late.
constexpr uint64_t kJitterNs = 100'000;
// How long the thread sleeps at most while a read does not come back.
constexpr uint64_t kMaxNapNs = 1'000'000;

// Due times are multiples of the interval on the clock itself, so that targets of one interval, whenever they were added,
// are due together: one wake-up serves them all.
uint64_t NextDueNs(uint64_t now_ns, uint64_t interval_ns) { return (now_ns / interval_ns + 1) * interval_ns; }

}  // namespace

int64_t Sampler::Add(SamplePlan plan) {
  const uint32_t id = next_id_;
  auto target = std::make_shared<SampledTarget>(id, std::move(plan), &events_);
  if (!thread_.is_running()) {
    const int error = StartThread();
    if (error != 0) return -error;
  }
  ++next_id_;
  by_id_.emplace(id, target);
  Publish({ChangeKind::kAdded, id, std::move(target)});
  return id;
}

int Sampler::StartThread() {
  const int error = thread_.Start("bd-sampler", [this] { Run(); });
  if (error != 0) return error;
  warnings_.clear();
  const int not_pinned = options_.cpu < 0 ? 0 : thread_.PinTo(options_.cpu);
  if (not_pinned != 0) {
    warnings_.push_back("The sampler's thread is not pinned to processor " + std::to_string(options_.cpu) + " (" +
                        std::strerror(not_pinned) + "): it runs on any.");
  }
  const int not_realtime = options_.realtime ? thread_.SetRealTime() : 0;
  if (not_realtime != 0) {
    warnings_.push_back(std::string("The sampler's thread has no real-time priority (") + std::strerror(not_realtime) +
                        "): a busy processor may delay it. Grant CAP_SYS_NICE, or for a service LimitRTPRIO=10.");
  }
  return 0;
}

const SampledTarget* Sampler::Find(uint32_t target) const {
  const auto found = by_id_.find(target);
  return found == by_id_.end() ? nullptr : found->second.get();
}

void Sampler::Update(uint32_t target, SamplePlan plan) {
  by_id_.at(target)->Update(std::move(plan));
  Publish({ChangeKind::kUpdated, target, nullptr});
}

void Sampler::Remove(uint32_t target) {
  const auto found = by_id_.find(target);
  if (found == by_id_.end()) return;
  found->second->Remove();
  by_id_.erase(found);
  Publish({ChangeKind::kRemoved, target, nullptr});
}

void Sampler::Publish(Change change) {
  {
    const std::lock_guard lock(mutex_);
    changes_.push_back(std::move(change));
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
  heap_.Clear();
  slots_.clear();
  changes_.clear();
  by_id_.clear();
}

void Sampler::Run() {
  // Without this a sleeping thread is woken up to 50 µs late, to save power.
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  expected_ns_ = MonotonicNs();
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (generation_.load(std::memory_order_acquire) != taken_generation_) TakeChanges();
    Turn();
    WaitForNext();
  }
}

Moment Sampler::LookAtClock() {
  const uint64_t now_ns = MonotonicNs();
  const uint64_t lateness_ns = now_ns > expected_ns_ ? now_ns - expected_ns_ : 0;
  if (lateness_ns > kJitterNs) late_ns_ += lateness_ns;
  expected_ns_ = now_ns;
  return {now_ns, late_ns_};
}

void Sampler::TakeChanges() {
  std::vector<Change> changes;
  {
    const std::lock_guard lock(mutex_);
    changes.swap(changes_);
    taken_generation_ = generation_.load(std::memory_order_relaxed);
  }
  for (Change& change : changes) {
    const Moment now = LookAtClock();
    if (change.kind == ChangeKind::kAdded) {
      TakeAdded(std::move(change.added), now);
      continue;
    }
    const auto found = slots_.find(change.target);
    if (found == slots_.end()) continue;
    change.kind == ChangeKind::kUpdated ? TakeUpdated(found->second.get(), now) : TakeRemoved(found->second.get());
  }
}

void Sampler::TakeAdded(std::shared_ptr<SampledTarget> target, Moment now) {
  target->Begin(now);
  const uint32_t id = target->id();
  auto slot = std::make_unique<Slot>(
      Slot{.target = std::move(target), .wake_ns = now.at_ns, .due_ns = now.at_ns, .free_ns = now.at_ns});
  SetFast(slot.get(), slot->target->interval_ns() < kSpinNs);
  heap_.Push(slot.get());
  slots_.emplace(id, std::move(slot));
}

// An update may have shortened the interval.
void Sampler::TakeUpdated(Slot* slot, Moment now) {
  const uint64_t interval_ns = slot->target->interval_ns();
  SetFast(slot, interval_ns < kSpinNs);
  slot->due_ns = std::min(slot->due_ns, NextDueNs(now.at_ns, interval_ns));
  if (slot->running != nullptr) return;
  heap_.Remove(slot);
  slot->wake_ns = slot->due_ns;
  heap_.Push(slot);
}

// A removed target is kept until its read has ended.
void Sampler::TakeRemoved(Slot* slot) {
  SetFast(slot, false);
  slot->is_removed = true;
  if (slot->running != nullptr) return;
  heap_.Remove(slot);
  slots_.erase(slot->target->id());
}

void Sampler::SetFast(Slot* slot, bool is_fast) {
  fast_slots_ += (is_fast ? 1 : 0) - (slot->is_fast ? 1 : 0);
  slot->is_fast = is_fast;
}

// All reads that are due are posted before any is awaited, so that their round trips overlap.
void Sampler::Turn() {
  const uint64_t now_ns = LookAtClock().at_ns;
  served_.clear();
  while (!heap_.empty() && heap_.top()->wake_ns <= now_ns) {
    served_.push_back(heap_.top());
    heap_.Remove(heap_.top());
  }
  for (Slot* slot : served_) {
    if (slot->running == nullptr) PostIfDue(slot);
  }
  for (Slot* slot : served_) {
    if (slot->running != nullptr) Poll(slot);
    if (slot->is_removed && slot->running == nullptr) {
      slots_.erase(slot->target->id());
    } else {
      heap_.Push(slot);
    }
  }
}

void Sampler::PostIfDue(Slot* slot) {
  const Moment now = LookAtClock();
  auto source = slot->target->source();
  if (source != nullptr) {
    Post(slot, now, std::move(source));
  } else {
    // It has been removed, and the change is about to be taken.
    slot->wake_ns = now.at_ns + kMaxNapNs;
  }
}

void Sampler::Post(Slot* slot, Moment now, std::shared_ptr<SampleSource> source) {
  const uint64_t meant_ns = std::max(slot->due_ns, slot->free_ns);
  slot->lateness_ns = now.at_ns > meant_ns ? now.at_ns - meant_ns : 0;
  // Times that were missed altogether are not made up for.
  slot->due_ns = NextDueNs(now.at_ns, slot->target->interval_ns());
  slot->posted = now;
  slot->running = std::move(source);
  ++running_slots_;
  if (!slot->running->Post()) {
    Finish(slot, SampleSource::Progress::kFailed);
  } else if (slot->running->is_immediate()) {
    Poll(slot);
  }
}

void Sampler::Poll(Slot* slot) {
  const SampleSource::Progress progress = slot->running->Poll();
  if (progress != SampleSource::Progress::kPending) {
    Finish(slot, progress);
    return;
  }
  const Moment now = LookAtClock();
  // A round trip is short or it is not: naps grow with the time waited so far, so that a dead peer, whose reads take
  // seconds to fail, does not cost a processor.
  slot->wake_ns = now.at_ns + std::min((now.at_ns - slot->posted.at_ns) / 4, kMaxNapNs);
  if (!slot->is_removed && slot->target->StillPending(now)) wake_();
}

void Sampler::Finish(Slot* slot, SampleSource::Progress progress) {
  const std::shared_ptr<SampleSource> source = std::move(slot->running);
  slot->running = nullptr;
  --running_slots_;
  const Moment now = LookAtClock();
  slot->free_ns = now.at_ns;
  slot->wake_ns = slot->due_ns;
  if (slot->is_removed) return;
  const bool wake = progress == SampleSource::Progress::kDone
                        ? slot->target->Succeeded(source.get(), slot->posted, now, slot->lateness_ns)
                        : slot->target->Failed(source->status(), now, slot->lateness_ns);
  if (wake) wake_();
}

void Sampler::WaitForNext() {
  const uint64_t now_ns = LookAtClock().at_ns;
  const Slot* next = heap_.empty() ? nullptr : heap_.top();
  if (next == nullptr) {
    WaitUntil(UINT64_MAX);
    return;
  }
  const bool is_spinning = fast_slots_ > 0 || running_slots_ > 0;
  if (next->wake_ns > now_ns + (is_spinning ? kSpinNs : kShortSpinNs)) WaitUntil(next->wake_ns);
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
