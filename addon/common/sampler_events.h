// The sampler's events on their way from its thread to the event loop.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

namespace backdoors {

// The order is that of `samplerEventKinds` in src/native/memory.ts.
enum class SamplerEventKind : uint8_t { kStalled, kMoved, kUnreachable, kReachable };

struct SamplerEvent {
  SamplerEventKind kind;
  uint32_t target;
  // Of stalled and moved only.
  uint32_t cell;
  uint32_t counter;
  // Of stalled: when the counter last changed. Of unreachable: when a read last succeeded.
  uint64_t since_ns;
  uint64_t at_ns;
  // Of unreachable: the code of the failure.
  const char* status;
};

// Events are delivered in the order they were pushed. An event loop that does not come to fetch them cannot make the
// queue grow without end: beyond `capacity` a new event replaces the older ones of the same edge (stalled and moved of
// one cell, unreachable and reachable of one target), so that the newest state of every edge always arrives.
class SamplerEventQueue {
 public:
  explicit SamplerEventQueue(size_t capacity) : capacity_(capacity) {}

  // True where the queue was empty, so that somebody has to be woken.
  bool Push(const SamplerEvent& event);
  // Appends all events to `events` and empties the queue.
  void Drain(std::vector<SamplerEvent>* events);
  // The cells of a target were replaced: `new_index[old]` is where a cell went, or -1 (its events are dropped).
  void Renumber(uint32_t target, const std::vector<int64_t>& new_index);

 private:
  const size_t capacity_;
  std::mutex mutex_;
  std::deque<SamplerEvent> events_;
};

}  // namespace backdoors
