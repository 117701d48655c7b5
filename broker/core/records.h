// What the core keeps and changes that is durable, beside jobs: queue records, the memory of ended
// jobs, the writes of a batch, and the snapshot a broker starts from.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/job.h"
#include "common/protocol/messages.h"

namespace sluice {

// Totals of a queue since its data began; they only grow.
struct QueueTotals {
  std::uint64_t submitted = 0, completed = 0, failed = 0, cancelled = 0;
  std::uint64_t retried = 0, lost = 0, handed_back = 0, timed_out = 0, expired = 0;
  friend bool operator==(const QueueTotals&, const QueueTotals&) = default;
};

// What is durable about a queue: its settings and its totals.
struct QueueRecord {
  std::string name;
  bool is_paused = false;
  QueueTotals totals;
  friend bool operator==(const QueueRecord&, const QueueRecord&) = default;
};

// Ended ids are known for ten minutes after retention has removed the job. What is removed within a
// minute of its end, as nearly everything is under load, is covered by the record of its end; a job
// that is removed later gets a record then.
inline constexpr std::int64_t kEndedFreshMs = 60'000;
inline constexpr std::int64_t kEndedKeepMs = 10LL * 60 * 1000 + kEndedFreshMs;

// The memory of a job that has ended: 32 bytes in Redis.
struct EndedRecord {
  IdHash id;
  std::uint64_t content_hash = 0;
  JobState state = JobState::completed;
  std::int64_t finished_ms = 0;
  // When retention removed it, if that was later than kEndedFreshMs after its end; else 0.
  std::int64_t removed_ms = 0;
  friend bool operator==(const EndedRecord&, const EndedRecord&) = default;

  // What its time in the memory counts from.
  [[nodiscard]] std::int64_t since_ms() const { return removed_ms > 0 ? removed_ms : finished_ms; }

  // The view loses it now, or may have lost it already.
  void remove_at(std::int64_t wall_ms) {
    if (finished_ms < wall_ms - kEndedFreshMs) removed_ms = wall_ms;
  }
};

// An ended job that retention removes later than kEndedFreshMs after its end. It goes only together
// with the record of it, and only if the view still has this very change of it.
struct RetiredJob {
  JobId id;
  std::uint64_t batch = 0;
  EndedRecord ended = {};
};

// A job that a batch changed. Borrowed: valid until the core is called again.
struct JobChange {
  const Job* job = nullptr;
  bool has_payload = false;  // its submit (or a full rewrite): the log entry carries the payload
};

// A job that an operator deleted, and what is remembered of it: its end may stand nowhere else.
struct RemovedJob {
  JobId id;
  EndedRecord ended;
};

// What one batch changed, as the core hands it over.
struct BatchWrites {
  std::vector<JobChange> jobs;
  std::vector<RemovedJob> removed;
  std::vector<EndedRecord> ended;          // remembered ends, written again after a loss
  std::vector<const QueueRecord*> queues;  // changed settings or totals, absolute values
  std::uint64_t next_sequence = 1;

  [[nodiscard]] bool empty() const {
    return jobs.empty() && removed.empty() && ended.empty() && queues.empty();
  }
};

// A job that an operator deleted; the view holds it until it contains `batch`.
struct DeletedJob {
  JobId id;
  std::uint64_t batch = 0;
};

// Where the last broker stopped.
struct Snapshot {
  std::uint64_t epoch = 0;       // ours, taken
  std::uint64_t last = 0;        // number of the last batch in the log
  std::uint64_t checkpoint = 0;  // the last batch that the view contains
  std::uint64_t next_sequence = 1;
  // Every live job, and ended ones that changed after the checkpoint. A million of them must not be
  // moved each time that there is one more.
  std::deque<Job> jobs;
  std::vector<QueueRecord> queues;
  std::vector<EndedRecord> ended;   // oldest first
  std::vector<DeletedJob> deleted;  // after the checkpoint
  bool has_cold_jobs = false;  // the view holds ended jobs that neither `jobs` nor `ended` names
};

// ---- reads that the core asks of the store; `token` is the core's own number for the request.

// Reads jobs by id from the view.
struct FetchJobs {
  std::uint64_t token = 0;
  std::vector<JobId> ids;
};

struct FetchedJobs {
  std::uint64_t token = 0;
  std::vector<Job> jobs;    // with payload and result; absent ids are missing
  std::uint64_t batch = 0;  // the checkpoint that they show
  std::uint64_t epoch = 0;  // that is stored; 0 = none
};

// What a job wrote to its log; the chunk's offset is the store's to give.
struct AddedLog {
  JobId id;
  LogChunk chunk;
};

// Reads a page of a job's log: what ends behind `from`.
struct FetchJobLog {
  std::uint64_t token = 0;
  JobId id;
  std::uint64_t from = 0;
};

struct FetchedJobLog {
  std::uint64_t token = 0;
  std::vector<LogChunk> chunks;
  std::uint64_t size = 0;  // all that was ever added; 0 = there is no log
};

// Reads a page of an index, for `list` and filters. Jobs without payload and result.
struct FetchList {
  std::uint64_t token = 0;
  Filter filter;
};

struct FetchedList {
  std::uint64_t token = 0;
  std::vector<Job> jobs;
  std::string cursor;
  std::uint64_t batch = 0;     // the checkpoint that the page shows
  std::optional<Error> error;  // a cursor that does not parse
};

}  // namespace sluice
