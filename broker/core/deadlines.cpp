#include "broker/core/deadlines.h"

namespace sluice {

void Deadlines::set(JobSlot slot, std::int64_t at_ms) {
  if (slot >= index_of_.size()) {
    if (at_ms == kNever) return;
    index_of_.resize(slot + 1, kAbsent);
  }
  std::uint32_t index = index_of_[slot];
  if (at_ms == kNever) {
    if (index != kAbsent) erase_at(index);
    return;
  }
  if (index == kAbsent) {
    index = static_cast<std::uint32_t>(heap_.size());
    heap_.push_back({at_ms, slot});
    index_of_[slot] = index;
  } else {
    heap_[index].at_ms = at_ms;
  }
  sift_up(index);
  sift_down(index_of_[slot]);
}

void Deadlines::place(std::uint32_t index, Entry entry) {
  heap_[index] = entry;
  index_of_[entry.slot] = index;
}

void Deadlines::sift_up(std::uint32_t index) {
  const Entry entry = heap_[index];
  while (index > 0) {
    const std::uint32_t parent = (index - 1) / 2;
    if (!entry.before(heap_[parent])) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, entry);
}

void Deadlines::sift_down(std::uint32_t index) {
  const Entry entry = heap_[index];
  const auto size = static_cast<std::uint32_t>(heap_.size());
  while (true) {
    std::uint32_t child = 2 * index + 1;
    if (child >= size) break;
    if (child + 1 < size && heap_[child + 1].before(heap_[child])) ++child;
    if (!heap_[child].before(entry)) break;
    place(index, heap_[child]);
    index = child;
  }
  place(index, entry);
}

void Deadlines::erase_at(std::uint32_t index) {
  index_of_[heap_[index].slot] = kAbsent;
  const Entry last = heap_.back();
  heap_.pop_back();
  if (index == heap_.size()) return;
  place(index, last);
  sift_up(index);
  sift_down(index_of_[last.slot]);
}

}  // namespace sluice
