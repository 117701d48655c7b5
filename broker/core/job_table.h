// Every job in memory, found by id, and the memory of jobs that have ended and left. Slots are
// stable until the end of the turn in which a job is erased, so that an Output may point at jobs.
#pragma once

#include <tsl/robin_map.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/deadlines.h"
#include "broker/core/records.h"
#include "common/job.h"

namespace sluice {

using NodeIndex = std::uint32_t;
inline constexpr NodeIndex kNoNode = UINT32_MAX;

// Gives the memory of a string back. (Assigning an empty one would keep it.)
inline void free_memory(std::string& text) {
  std::string().swap(text);
}

// A job with what only memory knows of it.
struct LiveJob {
  Job job;
  std::uint64_t run_n = 0;   // number of the `run` that carries its attempt, in our epoch; 0 = none
  NodeIndex node = kNoNode;  // running: on which node; kNoNode while its node has not reported
  std::uint32_t node_index = 0;  // running: place in that node's list of attempts
  std::uint32_t line = 0;        // its (queue, task) line
  std::uint32_t memory_bytes = 0;
  bool is_used = false;
  bool is_dirty = false;  // changed since the last batch
  bool needs_payload_write = false;
  bool is_cold = false;  // read from the view to answer a request; leaves again with the turn
  bool has_waiters = false;
  std::uint64_t mark = 0;  // of the status that last named it
};

// What is remembered of an ended job that has left memory.
struct Ended {
  std::uint64_t content_hash = 0;
  JobState state = JobState::completed;
  std::int64_t finished_ms = 0;
  std::int64_t since_ms = 0;  // as in EndedRecord
};

class JobTable {
 public:
  [[nodiscard]] std::optional<JobSlot> find(const JobId& id) const;

  [[nodiscard]] LiveJob& at(JobSlot slot) { return slots_[slot]; }

  [[nodiscard]] const LiveJob& at(JobSlot slot) const { return slots_[slot]; }

  void reserve(std::size_t count) { index_.reserve(count); }

  // The id must not be there.
  JobSlot insert(Job job);
  // The slot stays readable until recycle().
  void erase(JobSlot slot);
  // Start of a turn: slots erased before may be used again.
  void recycle();

  // Recomputes what a job counts for; call after its payload, result or texts changed.
  void account(JobSlot slot);

  [[nodiscard]] std::size_t size() const { return index_.size(); }

  [[nodiscard]] std::uint64_t memory_bytes() const { return memory_bytes_; }

  // For audits and full rewrites: every slot up to slot_count(), in order; skip those not used.
  [[nodiscard]] JobSlot slot_count() const { return static_cast<JobSlot>(slots_.size()); }

 private:
  std::deque<LiveJob> slots_;
  std::vector<JobSlot> free_;
  std::vector<JobSlot> erased_;
  tsl::robin_map<JobId, JobSlot> index_;
  std::uint64_t memory_bytes_ = 0;
};

// Ended ids: for kEndedKeepMs or the last `count_max`, whichever is less.
class EndedMemory {
 public:
  explicit EndedMemory(std::size_t count_max) : count_max_(count_max) {}

  void remember(const EndedRecord& record);
  void forget(const JobId& id);
  [[nodiscard]] const Ended* find(const JobId& id) const;
  // All of it, oldest first.
  [[nodiscard]] std::deque<EndedRecord> records() const;
  // Drops what is too old or too much. Returns whether anything was dropped.
  bool trim(std::int64_t wall_ms);

  [[nodiscard]] std::size_t size() const { return map_.size(); }

  // How far back it reaches, in ms.
  [[nodiscard]] std::int64_t covers_ms(std::int64_t wall_ms) const;

 private:
  struct Queued {
    IdHash id;
    std::int64_t since_ms;
  };

  std::size_t count_max_;
  tsl::robin_map<IdHash, Ended> map_;
  std::deque<Queued> order_;
};

}  // namespace sluice
