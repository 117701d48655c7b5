// The isolates of a node's task table, and their figures: an account of its own, kept from the
// attempts that begin and end in them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "common/protocol/messages.h"

namespace sluice::sim {

class Pool {
 public:
  // `isolates_max`: 0 = it has none, and every attempt begins at once.
  explicit Pool(std::uint32_t isolates_max) : isolates_max_(isolates_max) {}

  [[nodiscard]] bool has_isolates() const { return isolates_max_ > 0; }

  [[nodiscard]] std::uint32_t isolates_max() const { return isolates_max_; }

  [[nodiscard]] bool is_full() const { return has_isolates() && figures_.busy == isolates_max_; }

  void begin() {
    ++figures_.busy;
    figures_.total = std::max(figures_.total, figures_.busy);
  }

  void end(std::int64_t took_ms) {
    --figures_.busy;
    ++figures_.jobs;
    figures_.busy_ms += took_ms;
    if (figures_.jobs % kJobsMax == 0) ++figures_.recycles;
  }

  // The isolate of an attempt ends with it.
  void end_with_isolate() {
    --figures_.busy;
    --figures_.total;
    ++figures_.crashes;
  }

  void end_all() {
    figures_.busy = figures_.total = 0;
    waiting.clear();
  }

  [[nodiscard]] IsolateFigures figures() const {
    IsolateFigures now = figures_;
    now.task = "a";  // (one pool for all tasks)
    now.waiting = static_cast<std::uint32_t>(waiting.size());
    return now;
  }

  std::deque<std::uint64_t> waiting;  // attempts, for an isolate

 private:
  static constexpr std::uint64_t kJobsMax = 10;  // after so many one is replaced

  std::uint32_t isolates_max_;
  IsolateFigures figures_;
};

}  // namespace sluice::sim
