// Queues and their lines. A queue has one line for each task seen in it, so that a job whose task
// no node offers never stands in the way of others. A line is strict by priority and, inside one,
// first in first out by sequence.
//
// A line holds (sequence, slot) pairs; leaving (cancelled, dispatched, claimed) does not search for
// the pair: it stays behind and is passed over when it comes to the front. A handed-back or lost
// job goes back in under its old sequence, near the front, so the insertion that searches from the
// front is short.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "broker/core/deadlines.h"
#include "broker/core/job_table.h"
#include "broker/core/records.h"
#include "common/mutant.h"

namespace sluice {

using QueueIndex = std::uint32_t;
using LineIndex = std::uint32_t;

struct QueueEntry {
  QueueRecord record;
  std::uint64_t pending = 0, queued = 0, running = 0;
  std::vector<LineIndex> lines;
  bool is_dirty = false;  // the record changed since the last batch
  // For the rate over about the last ten seconds: completed totals at the turn of recent seconds.
  std::deque<std::pair<std::int64_t, std::uint64_t>> completed_marks;
};

// The head of a line: what would be dispatched next from it.
struct LineHead {
  Priority priority = Priority::normal;
  std::uint64_t sequence = 0;
  JobSlot slot = 0;

  friend bool operator==(const LineHead&, const LineHead&) = default;

  // Whether this goes before `other`: a higher priority, then the older.
  [[nodiscard]] bool before(const LineHead& other) const {
    if (priority != other.priority && !MUTANT(ignores_priority)) return priority > other.priority;
    return sequence < other.sequence;
  }
};

class QueueTable {
 public:
  explicit QueueTable(JobTable& jobs) : jobs_(jobs) {}

  // Finds or makes the queue and the line of a task in it.
  QueueIndex queue(std::string_view name);
  LineIndex line(std::string_view queue_name, std::string_view task);
  // Whether there is still room for a queue, or for a line, that may be new: kQueuesMax, kLinesMax.
  [[nodiscard]] bool has_room_for(std::string_view queue_name);
  [[nodiscard]] bool has_room_for(std::string_view queue_name, std::string_view task);
  // Nothing when there is no such queue yet.
  [[nodiscard]] QueueEntry* find(std::string_view name);

  [[nodiscard]] QueueEntry& entry(QueueIndex index) { return queues_[index]; }

  [[nodiscard]] const QueueEntry& entry(QueueIndex index) const { return queues_[index]; }

  [[nodiscard]] QueueIndex queue_index_of(LineIndex line) const { return lines_[line].queue; }

  [[nodiscard]] QueueEntry& queue_of(LineIndex line) { return queues_[lines_[line].queue]; }

  [[nodiscard]] std::size_t queue_count() const { return queues_.size(); }

  [[nodiscard]] std::size_t line_count() const { return lines_.size(); }

  [[nodiscard]] const std::string& task_of(LineIndex line) const { return lines_[line].task; }

  [[nodiscard]] std::string_view queue_name_of(LineIndex line) const {
    return queues_[lines_[line].queue].record.name;
  }

  [[nodiscard]] bool is_paused(LineIndex line) const {
    return queues_[lines_[line].queue].record.is_paused;
  }

  // Puts a queued job into its line (LiveJob::line) by its sequence.
  void enter(JobSlot slot);
  // The job that is next in the line, passing over those that have left; nothing when it is empty.
  [[nodiscard]] const LineHead* head(LineIndex line);
  // Entries of a line, those of jobs that have left included. For audits.
  [[nodiscard]] std::size_t entries(LineIndex line) const;
  // Takes the head out.
  void pop(LineIndex line);

  // A line that may have jobs, listed under the head it had when it was listed. Its true head may
  // have become another since, a later one.
  struct Ready {
    LineHead head;
    LineIndex line = 0;

    friend bool operator<(const Ready& a, const Ready& b) {
      if (a.head.before(b.head)) return true;
      return !b.head.before(a.head) && a.line < b.line;
    }
  };

  using ReadyLines = std::set<Ready>;

  // In the order in which they are to be served.
  [[nodiscard]] const ReadyLines& ready_lines() const { return ready_; }

  // The first place at or behind `place` whose line has the head it is listed under; lines on the
  // way are listed anew or, when they are empty, no more.
  [[nodiscard]] ReadyLines::const_iterator settle(ReadyLines::const_iterator place);

 private:
  struct Waiting {
    std::uint64_t sequence;
    JobSlot slot;
  };

  struct Line {
    QueueIndex queue = 0;
    std::string task;
    std::array<std::deque<Waiting>, kPriorities> waiting;
    std::array<std::size_t, kPriorities>
        sweep_at{};  // size at which those that wait no more are taken out
    LineHead head;
    ReadyLines::const_iterator place;  // in ready_, while is_ready
    bool is_ready = false;
  };

  void set_key(std::string_view queue_name, std::string_view task);
  ReadyLines::const_iterator list(LineIndex line, const LineHead& head);
  void unlist(LineIndex line);
  void sweep(LineIndex line, std::deque<Waiting>& waiting, std::size_t& sweep_at);
  [[nodiscard]] bool is_waiting(const Waiting& waiting, LineIndex line) const;

  JobTable& jobs_;
  std::vector<QueueEntry> queues_;
  std::vector<Line> lines_;
  ReadyLines ready_;
  std::vector<ReadyLines::node_type>
      spare_;  // so that a line that comes and goes allocates nothing
  std::unordered_map<std::string, QueueIndex> by_name_;
  std::unordered_map<std::string, LineIndex> by_task_;  // "queue\0task"
  std::string key_;                                     // scratch, so that a lookup never allocates
};

}  // namespace sluice
