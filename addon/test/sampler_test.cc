// The sampler's thread over sources that do what they are told: what no file and no test machine can be made to do. Run by
// src/native/sampler-thread.test.ts, which compiles it; each scenario prints its name, or says what is wrong and ends.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/sampler.h"

namespace {

using backdoors::LogHistogram;
using backdoors::SamplePlan;
using backdoors::Sampler;
using backdoors::SamplerEvent;
using backdoors::SamplerEventKind;
using backdoors::SampleSource;
using backdoors::TimerHeap;

constexpr uint64_t kPatientNs = 3'600'000'000'000;

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::exit(1);
}

// Far longer than anything takes: only what never comes fails.
void Until(const char* what, const std::function<bool()>& holds) {
  for (int step = 0; step < 60'000; ++step) {
    if (holds()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  Require(false, what);
}

// What happens to the sources, in order. Written on the sampler's thread, read once it has been joined.
using Log = std::vector<std::string>;

class FakeSource : public SampleSource {
 public:
  enum class Conduct { kAnswers, kNeverAnswers, kRefuses };

  explicit FakeSource(Conduct conduct, std::string name = "", Log* log = nullptr)
      : conduct_(conduct), name_(std::move(name)), log_(log) {}

  bool Post() noexcept override {
    if (is_under_way_.exchange(true)) posted_twice_ = true;
    posts_.fetch_add(1);
    if (log_ != nullptr) log_->push_back("post " + name_);
    if (conduct_.load() == Conduct::kRefuses) is_under_way_ = false;
    return conduct_.load() != Conduct::kRefuses;
  }
  Progress Poll() noexcept override {
    polls_.fetch_add(1);
    if (log_ != nullptr) log_->push_back("poll " + name_);
    if (conduct_.load() == Conduct::kNeverAnswers) return Progress::kPending;
    word_ = counter_.load();
    is_under_way_ = false;
    return Progress::kDone;
  }
  const char* status() const noexcept override { return "TEST"; }
  const uint8_t* data() const noexcept override { return reinterpret_cast<const uint8_t*>(&word_); }
  size_t length() const noexcept override { return sizeof word_; }
  uint64_t OffsetAt(size_t position) const noexcept override { return position; }

  void Behave(Conduct conduct) { conduct_ = conduct; }
  void Beat() { counter_.fetch_add(1); }
  uint64_t posts() const { return posts_; }
  uint64_t polls() const { return polls_; }
  bool posted_twice() const { return posted_twice_; }

 private:
  std::atomic<Conduct> conduct_;
  const std::string name_;
  Log* const log_;
  std::atomic<bool> is_under_way_{false};
  std::atomic<bool> posted_twice_{false};
  std::atomic<uint64_t> posts_{0};
  std::atomic<uint64_t> polls_{0};
  std::atomic<uint32_t> counter_{0};
  uint32_t word_ = 0;
};

using Conduct = FakeSource::Conduct;

SamplePlan PlanOf(std::shared_ptr<SampleSource> source, uint64_t interval_ns, uint64_t unreachable_ns = kPatientNs) {
  return {std::move(source), {{0, -1, kPatientNs}}, interval_ns, unreachable_ns};
}

uint64_t RoundsOf(const Sampler& sampler, int64_t target) {
  return sampler.Find(static_cast<uint32_t>(target))->Report().rounds;
}

void PeersThatDoNotAnswerHoldUpNobody() {
  Sampler sampler([] {});
  std::vector<std::shared_ptr<FakeSource>> silent;
  for (int index = 0; index < 200; ++index) {
    silent.push_back(std::make_shared<FakeSource>(Conduct::kNeverAnswers));
    sampler.Add(PlanOf(silent.back(), 100'000));
  }
  std::vector<int64_t> healthy;
  for (int index = 0; index < 20; ++index) {
    healthy.push_back(sampler.Add(PlanOf(std::make_shared<FakeSource>(Conduct::kAnswers), 1'000'000)));
  }
  for (const int64_t target : healthy) {
    Until("a healthy peer is sampled", [&] { return RoundsOf(sampler, target) >= 100; });
  }
  sampler.Stop();
  for (const auto& source : silent) {
    Require(source->posts() == 1, "a peer that does not answer has one read under way");
  }
}

void APeerThatDoesNotAnswerBecomesUnreachableAndIsAskedSeldom() {
  Sampler sampler([] {});
  const auto source = std::make_shared<FakeSource>(Conduct::kNeverAnswers);
  const int64_t target = sampler.Add(PlanOf(source, 20'000, 100'000'000));
  std::vector<SamplerEvent> events;
  Until("unreachable", [&] { return !(events = sampler.TakeEvents()).empty(); });
  Require(events[0].kind == SamplerEventKind::kUnreachable && std::strcmp(events[0].status, "TIMEOUT") == 0,
          "it is unreachable by TIMEOUT");
  // Looked at all the time at first, then after naps that grow: in 100 ms it has had 100 naps at most of the longest kind,
  // and one that has waited for seconds is looked at a thousand times in each.
  const uint64_t before = source->polls();
  const auto from = std::chrono::steady_clock::now();
  Until("it is looked at on", [&] { return source->polls() >= before + 20; });
  Require(std::chrono::steady_clock::now() - from >= std::chrono::milliseconds(15), "it is looked at seldom");
  source->Behave(Conduct::kAnswers);
  Until("reachable", [&] { return !(events = sampler.TakeEvents()).empty(); });
  Require(events[0].kind == SamplerEventKind::kReachable, "it is reachable again");
  Until("sampled", [&] { return RoundsOf(sampler, target) > 10; });
  sampler.Stop();
  Require(!source->posted_twice(), "no read is posted while one is under way");
}

void AllThatAreDueArePostedBeforeAnyIsAwaited() {
  Log log;
  Sampler sampler([] {});
  std::vector<int64_t> targets;
  for (const char* name : {"a", "b", "c", "d"}) {
    targets.push_back(sampler.Add(PlanOf(std::make_shared<FakeSource>(Conduct::kAnswers, name, &log), 5'000'000)));
  }
  for (const int64_t target : targets) Until("rounds", [&] { return RoundsOf(sampler, target) >= 10; });
  sampler.Stop();
  // However they were added, they are due together from the second round on: four posts, then four polls.
  size_t together = 0;
  for (size_t at = 0; at + 8 <= log.size(); ++at) {
    bool is_round = true;
    for (size_t step = 0; step < 8; ++step) is_round &= log[at + step].starts_with(step < 4 ? "post" : "poll");
    together += is_round ? 1 : 0;
  }
  Require(together >= 1, "targets of one interval are posted together, and then polled");
}

void RefusedPostsAreTriedAgainAndToldWithTheirCause() {
  Sampler sampler([] {});
  const auto source = std::make_shared<FakeSource>(Conduct::kRefuses);
  sampler.Add(PlanOf(source, 200'000, 10'000'000));
  std::vector<SamplerEvent> events;
  Until("unreachable", [&] { return !(events = sampler.TakeEvents()).empty(); });
  Require(std::strcmp(events[0].status, "TEST") == 0, "the cause is told");
  Require(source->posts() > 1, "it is tried again");
}

void TargetsComeAndGoWhileTheThreadRuns() {
  Sampler sampler([] {});
  std::vector<std::pair<int64_t, std::shared_ptr<FakeSource>>> live;
  uint32_t draw = 12345;
  const auto random = [&draw](uint32_t below) { return (draw = draw * 1664525 + 1013904223) / 65536 % below; };
  for (int step = 0; step < 5'000; ++step) {
    if (live.size() < 300 && random(3) != 0) {
      const auto conduct = static_cast<Conduct>(random(3));
      const auto source = std::make_shared<FakeSource>(conduct);
      live.emplace_back(sampler.Add(PlanOf(source, 20'000 + random(2'000'000))), source);
    } else if (!live.empty()) {
      auto& chosen = live[random(static_cast<uint32_t>(live.size()))];
      if (random(2) == 0) {
        sampler.Update(static_cast<uint32_t>(chosen.first), PlanOf(chosen.second, 20'000 + random(2'000'000)));
      } else {
        sampler.Remove(static_cast<uint32_t>(chosen.first));
        chosen.second->Behave(Conduct::kAnswers);
        Require(sampler.Find(static_cast<uint32_t>(chosen.first)) == nullptr, "a removed target is gone");
        std::swap(chosen, live.back());
        live.pop_back();
      }
    }
  }
  for (const auto& [target, source] : live) {
    source->Behave(Conduct::kAnswers);
    const uint64_t before = RoundsOf(sampler, target);
    Until("every target that was left is sampled", [&, id = target] { return RoundsOf(sampler, id) > before + 2; });
    Require(!source->posted_twice(), "no read is posted while one is under way");
  }
  sampler.Stop();
  sampler.Stop();
  Require(sampler.size() == 0, "a stopped sampler has let go of all");
}

void ARemovedTargetIsKeptUntilItsReadHasEnded() {
  Sampler sampler([] {});
  auto source = std::make_shared<FakeSource>(Conduct::kNeverAnswers);
  const std::weak_ptr<FakeSource> left = source;
  const int64_t target = sampler.Add(PlanOf(source, 100'000));
  Until("posted", [&] { return source->posts() == 1; });
  sampler.Remove(static_cast<uint32_t>(target));
  const uint64_t polls = source->polls();
  Until("polled on", [&] { return source->polls() > polls + 3; });
  source->Behave(Conduct::kAnswers);
  source = nullptr;
  Until("let go", [&] { return left.expired(); });
}

void RoundTripsAreCountedByTheirSize() {
  Sampler sampler([] {});
  const int64_t target = sampler.Add(PlanOf(std::make_shared<FakeSource>(Conduct::kAnswers), 100'000));
  Until("rounds", [&] { return RoundsOf(sampler, target) >= 100; });
  const backdoors::SampledTarget* found = sampler.Find(static_cast<uint32_t>(target));
  // Read without a lock while it goes on; then once more, when it stands still.
  uint64_t sum = 0;
  for (size_t bucket = 0; bucket < LogHistogram::kBuckets; ++bucket) sum += found->histograms().round_trips.At(bucket);
  Require(sum >= 99, "every round trip is counted");
}

struct Entry {
  uint64_t wake_ns = 0;
  size_t heap_index = 0;
};

void TheHeapGivesTheEarliest() {
  TimerHeap<Entry> heap;
  std::vector<Entry> entries(1000);
  uint32_t draw = 7;
  for (Entry& entry : entries) {
    entry.wake_ns = (draw = draw * 1664525 + 1013904223) / 65536 % 500;
    heap.Push(&entry);
  }
  for (size_t index = 0; index < entries.size(); index += 3) {
    heap.Remove(&entries[index]);
    entries[index].wake_ns += 100;
    heap.Push(&entries[index]);
  }
  for (size_t index = 1; index < entries.size(); index += 3) heap.Remove(&entries[index]);
  uint64_t last = 0;
  size_t count = 0;
  for (; !heap.empty(); ++count) {
    Require(heap.top()->wake_ns >= last, "entries come in order");
    last = heap.top()->wake_ns;
    heap.Remove(heap.top());
  }
  Require(count == 667, "all come that were left inside");
}

void WhatIsNotPermittedIsTold() {
  Sampler sampler([] {}, {.cpu = CPU_SETSIZE - 1, .realtime = false});
  sampler.Add(PlanOf(std::make_shared<FakeSource>(Conduct::kAnswers), 1'000'000));
  Require(sampler.warnings().size() == 1 && sampler.warnings()[0].find("processor 1023") != std::string::npos,
          "a processor that there is not is told");
}

}  // namespace

int main() {
#define RUN(scenario) \
  scenario();         \
  std::puts(#scenario)
  RUN(TheHeapGivesTheEarliest);
  RUN(PeersThatDoNotAnswerHoldUpNobody);
  RUN(APeerThatDoesNotAnswerBecomesUnreachableAndIsAskedSeldom);
  RUN(AllThatAreDueArePostedBeforeAnyIsAwaited);
  RUN(RefusedPostsAreTriedAgainAndToldWithTheirCause);
  RUN(TargetsComeAndGoWhileTheThreadRuns);
  RUN(ARemovedTargetIsKeptUntilItsReadHasEnded);
  RUN(RoundTripsAreCountedByTheirSize);
  RUN(WhatIsNotPermittedIsTold);
}
