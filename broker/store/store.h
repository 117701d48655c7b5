// The store as the broker sees it: durable batches (the log), a readable view just behind it, and
// reads of what is not in memory. Implemented by RedisStore (a real redis-server) and MemoryStore
// (the checked in-memory twin); one conformance suite holds both to this contract. Layout: KEYS.md.
//
// One thread. send() never blocks; what it asks is answered by receive(), in the order sent on one
// connection. When the connection ends, `StoreDisconnected` stands for every answer not yet given:
// their outcome is unknown. The store reconnects by itself and then says `StoreConnected`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "broker/core/records.h"
#include "common/ids.h"
#include "common/job.h"
#include "common/protocol/messages.h"
#include "common/result.h"
#include "common/time.h"

namespace sluice {

// One durable batch: entry `<n>-0` of the log. `blob` is made by encode_entry() (log_entry.h).
// Shared, immutable: the pipeline, the replay ring and the projector hold the same bytes.
struct LogEntry {
  std::uint64_t n = 0;
  std::string blob;
};

using LogEntryPtr = std::shared_ptr<const LogEntry>;

// What `meta` says.
struct StoreMeta {
  bool exists = false;
  std::uint64_t layout = 0;
  std::uint64_t epoch = 0;
  std::string owner;
  std::uint64_t last = 0;        // number of the last batch in the log
  std::uint64_t checkpoint = 0;  // the last batch that the view contains
};

// ------------------------------------------------------------------ start

// What open() brings: everything a broker needs to go on where the last one stopped.
struct Opened {
  Snapshot snapshot;                 // for the core
  std::uint64_t replaced_epoch = 0;  // what was stored before; 0 = nothing
  std::string run_id;                // of the Redis process
  Durability durability = Durability::everysec;
  std::vector<LogEntryPtr>
      unprojected;  // the entries after the checkpoint, in order: for the projector
  std::uint64_t ended_chunk_first = 0;  // KEYS.md, `ended:<chunk>`
  std::uint64_t ended_chunk_next = 0;
  std::vector<std::string> unreadable;  // ids in an index of jobs to run whose hash can not be
                                        // read, or does not belong there
};

// ------------------------------------------------------------------ requests and replies

// Appends the entry if (epoch, owner) is still the owner and n = last + 1.
struct CommitRequest {
  std::uint64_t epoch = 0;
  LogEntryPtr entry;
};
enum class CommitAnswer : std::uint8_t {
  ok,
  already,      // n <= last: it is there from before
  gap,          // n > last + 1: nothing written; `value` = last
  fenced,       // a higher epoch, or the same with another owner; `value` = that epoch
  rolled_back,  // no meta, or a lower epoch: FLUSHALL or an older state
};

struct CommitReply {
  std::uint64_t n = 0;
  CommitAnswer answer = CommitAnswer::ok;
  std::uint64_t value = 0;
};

// One call of the view's round: at most about 32 rows. Made by the Projector.
struct NodeText {
  std::string node;
  std::string json;  // empty = remove
};

struct ViewRow {
  Job job;
  // Write spec.payload; else the hash keeps the one it has. A completed job without
  // spec.keep_payload loses it either way (failed and cancelled ones keep it: they may be retried).
  bool has_payload = false;
};

struct Retention {  // by state: completed/cancelled, failed
  std::int64_t keep_ms = 24LL * 3600 * 1000;
  std::int64_t failed_keep_ms = 30LL * 24 * 3600 * 1000;
  std::uint64_t keep_count = 10'000;  // per queue and state
};

struct ProjectRequest {
  std::uint64_t epoch = 0;
  std::vector<ViewRow> rows;
  std::vector<JobId> removed;  // deleted by an operator
  // Found by an earlier call's `to_retire`; their records stand in ended_blob. One that has changed
  // since stays.
  std::vector<RetiredJob> retired;
  std::vector<NodeText> nodes;
  std::vector<std::string> events;  // JSON texts for the capped stream `events`
  std::string ended_blob;           // 32-byte records to append to chunk `ended_chunk`
  std::uint64_t ended_chunk = 0;
  std::vector<std::uint64_t> ended_drop;  // chunks to forget
  // Retention, of the queues whose jobs ended in this call: at most kTrimMax of each state, none
  // that changed after `trim_before_batch`. What ended more than kEndedFreshMs before `wall_ms` is
  // not removed but told, for it must not go without a record of it.
  std::vector<std::string> trim_queues;
  Retention retention;
  std::uint64_t trim_before_batch = 0;  // the checkpoint that stands while the round is written
  std::int64_t wall_ms = 0;             // now, for the age rule
  // Only in the last call of a round:
  std::optional<std::uint64_t> checkpoint;  // moves forward only
  std::vector<QueueRecord> queues;          // settings and totals at that checkpoint
  std::uint64_t next_sequence = 0;
  std::uint64_t finished_not_kept = 0;  // added to the total
  std::int64_t view_lag_ms = 0;
};

// Jobs that retention looks at per queue, state and call, and that it tells of per call.
inline constexpr std::size_t kTrimMax = 256;
inline constexpr std::size_t kRetireMax = 1024;

struct ProjectReply {
  bool fenced = false;
  bool rolled_back = false;      // nothing written: no meta, or a lower epoch
  std::uint64_t checkpoint = 0;  // as it now stands
  std::uint64_t removed = 0;     // by retention
  std::vector<RetiredJob> to_retire = {};
  std::uint64_t set_aside = 0;  // foreign keys at names of ours: renamed, KEYS.md
};

// After StoreConnected, when the state is older than ours or another Redis process's: own it again.
// `base` (resync only): the number after which the log goes on when it has lost more than we can
// replay; 0 = keep `last` as it is.
struct TakeOver {
  std::uint64_t epoch = 0;  // refused (`taken` false) unless above the stored one
  std::uint64_t base = 0;
  // A broker that runs (resync) names the epoch that its start replaced: refused when another
  // owner's newer one is stored, for then somebody took this history after us. (Not when it is
  // newer than ours: whose clock is ahead says nothing.) 0 = a start, which replaces whoever is
  // there.
  std::uint64_t replaced_epoch = 0;
};

struct TookOver {
  bool taken = false;
  StoreMeta meta;  // after the call
};

// A page of the log as Redis has it: the first entries from number `from` to `to`, at most kLogPage
// of them. For a resync whose view is behind what the replay ring begins with. `entries` empty =
// that was all.
struct ReadLog {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
};

inline constexpr std::size_t kLogPage = 200;

struct LogRead {
  std::vector<LogEntryPtr> entries;
};

// Adds to the logs of jobs, each of which keeps its newest kLogKeptBytes. No part of the batches:
// what is refused is lost, and nothing waits for it. All logs together have at most `bytes_max`,
// and what would be more is not added. A log goes with its job: for one that the view never gets,
// `ProjectRequest::removed` names it.
struct AddToLogs {
  std::uint64_t epoch = 0;
  std::shared_ptr<const std::vector<AddedLog>> added;
  std::uint64_t bytes_max = 0;
};

struct AddedToLogs {
  bool is_taken = true;             // false: this broker does not own the state (any more)
  std::vector<std::uint64_t> ends;  // of each: how much its job ever wrote, with it; 0 = not added
};

struct StoreConnected {
  std::string run_id;
  StoreMeta meta;
};

struct StoreDisconnected {
  std::string reason;
};

// Redis answered an error that wrote nothing (OOM, MISCONF, READONLY, LOADING, BUSY, NOREPLICAS, no
// such function). For commits the pipeline sends the batch and all behind it again later.
struct StoreRefused {
  enum class What : std::uint8_t {
    commit,
    project,
    fetch,
    take_over,
    read_log,
    logs
  } what = What::commit;
  std::uint64_t n = 0;  // commit: the batch; fetch: the token
  std::string reason;   // "OOM command not allowed ..."
};

// Said after open() and whenever it changes (looked at every second): whether submits still
// fit.
struct StoreHealth {
  bool is_full = false;  // used_memory is above 85 % of maxmemory
  Durability durability = Durability::everysec;
  std::string unsafe;       // a setting that became unsafe while running, in words; empty = fine
  std::uint64_t epoch = 0;  // that is stored; 0 = the state is gone
};

using StoreRequest = std::variant<CommitRequest,
                                  ProjectRequest,
                                  FetchJobs,
                                  FetchList,
                                  FetchJobLog,
                                  TakeOver,
                                  ReadLog,
                                  AddToLogs>;
using StoreReply = std::variant<CommitReply,
                                ProjectReply,
                                FetchedJobs,
                                FetchedList,
                                FetchedJobLog,
                                TookOver,
                                LogRead,
                                AddedToLogs,
                                StoreConnected,
                                StoreDisconnected,
                                StoreRefused,
                                StoreHealth>;

// Told while a large state is read, every few milliseconds: how many jobs have been read so far.
// False: the reading is given up.
using OpenProgress = std::function<bool(std::size_t jobs_read)>;

// To the end, without a word.
inline bool read_on(std::size_t /*jobs_read*/) {
  return true;
}

class Store {
 public:
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual ~Store() = default;

  // Takes over with an epoch of max(stored + 1, `epoch_min`) and reads what is there. Blocks; used
  // once, before anything is sent. Errors: store_unavailable (away, or given up; try again),
  // bad_field (an unsafe Redis, a newer layout, with a sentence that says what to change), denied
  // (wrong password).
  [[nodiscard]] virtual Result<Opened> open(std::string owner,
                                            std::uint64_t epoch_min,
                                            const OpenProgress& progress) = 0;

  virtual void send(StoreRequest request) = 0;

  // Moves what has arrived to the end of `replies`.
  virtual void receive(std::vector<StoreReply>& replies) = 0;

  // ---- for the loop: what to poll. A store without I/O keeps the defaults.
  // The descriptor of the connection, -1 while there is none (it changes with every reconnect).
  [[nodiscard]] virtual int fd() const { return -1; }

  [[nodiscard]] virtual bool wants_write() const { return false; }

  // The descriptor is ready; also called with false, false when a deadline has come.
  virtual void on_ready(bool /*is_readable*/, bool /*is_writable*/, Now /*now*/) {}

  // When on_ready() wants to be called at the latest (connect, reply, reconnect, health).
  [[nodiscard]] virtual std::int64_t next_deadline_mono_ms() const { return kNever; }
};

}  // namespace sluice
