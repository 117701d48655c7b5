// A heap of deadlines, at most one for each job in memory, with removal. An indexed binary heap
// rather than lazily deleted entries: at 100 000 jobs a second with time-outs of 30 minutes, dead
// entries would outnumber the living by five orders of magnitude.
#pragma once

#include <cstdint>
#include <vector>

#include "common/time.h"

namespace sluice {

using JobSlot = std::uint32_t;  // index into the JobTable

class Deadlines {
 public:
  // Sets or moves the deadline of a slot; kNever removes it.
  void set(JobSlot slot, std::int64_t at_ms);

  void remove(JobSlot slot) { set(slot, kNever); }

  [[nodiscard]] bool empty() const { return heap_.empty(); }

  [[nodiscard]] std::int64_t next_ms() const {
    return heap_.empty() ? kNever : heap_.front().at_ms;
  }

  [[nodiscard]] JobSlot next_slot() const { return heap_.front().slot; }

 private:
  struct Entry {
    std::int64_t at_ms;
    JobSlot slot;

    [[nodiscard]] bool before(const Entry& other) const {
      return at_ms != other.at_ms ? at_ms < other.at_ms : slot < other.slot;
    }
  };

  static constexpr std::uint32_t kAbsent = UINT32_MAX;

  void place(std::uint32_t index, Entry entry);
  void sift_up(std::uint32_t index);
  void sift_down(std::uint32_t index);
  void erase_at(std::uint32_t index);

  std::vector<Entry> heap_;
  std::vector<std::uint32_t> index_of_;  // by slot; kAbsent where there is none
};

}  // namespace sluice
