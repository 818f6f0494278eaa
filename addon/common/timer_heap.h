// What is due when: the earliest is found at once, and any can be taken out or moved, among thousands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace backdoors {

// A binary heap of pointers to entries that know their own place in it. `Entry` has `uint64_t wake_ns`, constant while
// it is inside, and `size_t heap_index`, which is the heap's.
template <typename Entry>
class TimerHeap {
 public:
  bool empty() const { return entries_.empty(); }
  Entry* top() const { return entries_.front(); }

  void Push(Entry* entry) {
    entries_.push_back(entry);
    Rise(entries_.size() - 1, entry);
  }

  // The entry must be inside.
  void Remove(Entry* entry) {
    const size_t hole = entry->heap_index;
    Entry* last = entries_.back();
    entries_.pop_back();
    if (last == entry) return;
    if (hole > 0 && last->wake_ns < entries_[(hole - 1) / 2]->wake_ns) {
      Rise(hole, last);
    } else {
      Sink(hole, last);
    }
  }

  void Clear() { entries_.clear(); }

 private:
  void Put(size_t index, Entry* entry) {
    entries_[index] = entry;
    entry->heap_index = index;
  }

  void Rise(size_t index, Entry* entry) {
    while (index > 0) {
      const size_t parent = (index - 1) / 2;
      if (entries_[parent]->wake_ns <= entry->wake_ns) break;
      Put(index, entries_[parent]);
      index = parent;
    }
    Put(index, entry);
  }

  void Sink(size_t index, Entry* entry) {
    for (size_t child = 2 * index + 1; child < entries_.size(); child = 2 * index + 1) {
      if (child + 1 < entries_.size() && entries_[child + 1]->wake_ns < entries_[child]->wake_ns) ++child;
      if (entry->wake_ns <= entries_[child]->wake_ns) break;
      Put(index, entries_[child]);
      index = child;
    }
    Put(index, entry);
  }

  std::vector<Entry*> entries_;
};

}  // namespace backdoors
