// The messages of the wire as values. PROTOCOL.md is the specification, codec.h turns these into
// bytes and back; the names of the keys are the names of the members unless a comment says
// otherwise.
//
// One message = one frame = one msgpack map with string keys. Unknown keys are ignored (but for the
// reserved ones of a job), a missing optional key has the default that stands here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "common/job.h"
#include "common/result.h"

namespace sluice {

// The msgpack bytes of a request's `req` (an integer or a string of at most 64 bytes), echoed as
// is.
using Req = std::string;

// ---------------------------------------------------------------- producer -> broker

// Which jobs an operation means: `ids` (1..1000), or a filter (at least one field set). A filter
// acts on one page of at most `limit` jobs and is answered with the cursor of the next page.
struct Filter {
  std::optional<JobState> state;
  std::string queue;
  std::string task;
  std::string tag;
  std::string error_code;
  std::string cursor;         // opaque; empty = from the start
  std::uint32_t limit = 100;  // 1..200
  friend bool operator==(const Filter&, const Filter&) = default;
};

struct Targets {
  std::vector<JobId> ids;
  std::optional<Filter> filter;  // exactly one of both
};

// A job of a submit that could not be taken, found by the codec; the others of the message go on.
struct RejectedJob {
  std::string id;  // as sent, if it was a string; cut to 64 bytes
  Error error;
};

struct Submit {
  std::vector<std::variant<JobSpec, RejectedJob>> jobs;  // in the order sent
  bool wait = false;
};

struct Get {
  std::vector<JobId> ids;
};

struct Wait {
  std::vector<JobId> ids;
  std::int64_t timeout_ms = 60'000;  // 0..24 h
};

struct Cancel {
  Targets targets;
  std::string reason;
};

struct Retry {
  Targets targets;
};

struct Delete {
  Targets targets;
};

struct List {
  Filter filter;
};  // filter.state is required

// A page of a job's log.
struct Logs {
  JobId id;
  std::uint64_t from = 0;  // what ends behind this many bytes
};

struct Queues {};

struct Workers {};

struct Stats {};

struct Pause {
  std::string queue;
};

struct Resume {
  std::string queue;
};

struct Purge {
  std::string queue;
};  // cancels every job of the queue that waits

struct Drain {
  std::string node;
};  // a node id, or a name that only one node has

struct SetConcurrency {
  std::string node;
  std::uint32_t concurrency = 1;
};

struct Ping {};

using RequestBody = std::variant<Submit,
                                 Get,
                                 Wait,
                                 Cancel,
                                 Retry,
                                 Delete,
                                 List,
                                 Logs,
                                 Queues,
                                 Workers,
                                 Stats,
                                 Pause,
                                 Resume,
                                 Purge,
                                 Drain,
                                 SetConcurrency,
                                 Ping>;

struct Request {
  Req req;
  RequestBody body;
};

// ---------------------------------------------------------------- broker -> producer
// Every reply carries `op` and `req`. A reply with `open: true` is not the closing one.

enum class Durability : std::uint8_t {
  memory,
  everysec,
  always
};
[[nodiscard]] std::string_view to_string(Durability durability);

enum class SubmitStatus : std::uint8_t {
  accepted,
  duplicate,
  conflict,
  rejected
};
[[nodiscard]] std::string_view to_string(SubmitStatus status);

struct SubmitResult {
  std::string id;
  SubmitStatus status = SubmitStatus::accepted;
  std::optional<JobState> state;  // of the job that exists: not when rejected
  std::optional<Error> error;     // conflict and rejected: code, field, message
};

// A job as `get`, `wait` and `list` show it. Exactly one of: a job, `not_found`, `result_gone`.
struct JobView {
  JobId id;
  std::optional<Job> job;  // payload and result only where the request brings them
  bool is_not_found = false;
  bool is_result_gone = false;  // only the memory of its end is left: state and finished_ms
  JobState state = JobState::pending;
  std::int64_t finished_ms = 0;
};

struct Submitted {  // op "submitted"
  std::vector<SubmitResult> results;
  Durability durable = Durability::everysec;
  bool open = false;  // with `wait`: `finished` and `waited` follow
};

struct Jobs {  // op "jobs", answers get
  std::vector<JobView> jobs;
  std::vector<JobId> more;  // did not fit into this message: ask again
};

struct Finished {  // op "finished", open: true
  std::vector<JobView> jobs;
  std::vector<JobId> more;
};

// op "waited", the closing answer of wait and of submit with wait. To a peer with the delimiter it
// carries all: `results` (submit only), `jobs`.
struct Waited {
  std::vector<SubmitResult> results;
  std::vector<JobView> jobs;  // delimiter peers only
  std::vector<JobId> more;
  std::vector<JobId> unfinished;  // not ended when the time was over
  std::optional<Durability> durable;
};

struct TargetResult {
  JobId id;
  std::string status;  // cancelled, cancelling, retried, deleted, too_late, not_found, not_ended
  std::optional<JobState> state;
};

struct TargetsDone {  // op "cancelled" | "retried" | "deleted" (closing)
  std::string op;
  std::vector<TargetResult> results;
  std::string cursor;  // with a filter: the next page, empty = no more
};

struct Listed {  // op "listed"; jobs without payload and result
  std::vector<JobView> jobs;
  std::string cursor;
  std::uint64_t batch = 0;  // the view's batch that this page shows
};

// A piece of a job's log, as an attempt wrote it.
struct LogChunk {
  std::uint64_t offset = 0;  // of its first byte, among all that the job ever wrote
  std::uint32_t attempt = 0;
  std::int64_t at_ms = 0;  // when the broker got it
  std::string bytes;
  friend bool operator==(const LogChunk&, const LogChunk&) = default;
};

struct LogPage {  // op "logs"
  JobId id;
  JobState state = JobState::running;  // from before the page was read: ended = all is written
  std::vector<LogChunk> chunks;        // in order
  std::uint64_t next = 0;              // `from` of the next page
  std::uint64_t size = 0;              // all that it ever wrote; next < size: there is more
};

struct QueueInfo {
  std::string queue;
  bool paused = false;
  std::uint64_t pending = 0, queued = 0, running = 0;
  std::uint64_t completed = 0, failed = 0, cancelled = 0;  // totals since the data directory began
  std::uint64_t submitted = 0, retried = 0, lost = 0;
  std::int64_t oldest_queued_ms = 0;  // age of the job that waits longest
  double completed_per_s = 0;         // over about the last 10 s
};

struct QueuesInfo {
  std::vector<QueueInfo> queues;
};  // op "queues"

// How a task's isolates are doing: a node's `status` says it, the broker passes it on.
struct IsolateFigures {
  std::string task;
  std::uint32_t total = 0, busy = 0;                  // the others are available
  std::uint32_t waiting = 0;                          // jobs that found none
  std::uint64_t jobs = 0, crashes = 0, recycles = 0;  // since the node's start
  std::int64_t busy_ms = 0;                           // of all together, finished jobs only
  friend bool operator==(const IsolateFigures&, const IsolateFigures&) = default;
};

struct NodeInfo {
  std::string node;
  std::uint32_t concurrency = 0, running = 0, free = 0;
  std::vector<std::string> tasks, queues;
  std::vector<Header> labels;
  bool draining = false;
  std::string version;
  std::int64_t last_seen_ms = 0;            // how long ago
  std::uint64_t completed = 0, failed = 0;  // since this broker's start
  std::vector<IsolateFigures> isolates;     // as its last status said; no more than it has tasks
};

struct WorkersInfo {
  std::vector<NodeInfo> workers;
};  // op "workers"

struct StatsInfo {  // op "stats"; a flat map of numbers and short strings, keys as in PROTOCOL.md
  std::vector<std::pair<std::string, std::uint64_t>> numbers;
  std::vector<std::pair<std::string, std::string>> texts;
};

struct Done {  // op "paused" | "resumed" | "purged" | "asked" (drain, set_concurrency)
  std::string op;
  std::uint64_t count = 0;  // jobs that purge cancelled
};

struct Pong {  // op "pong"
  std::string version;
  std::uint32_t protocol = kProtocolVersion;
  std::uint64_t epoch = 0;
  Durability durable = Durability::everysec;
  std::string store;  // "ok", "down"
  bool insecure = false;
};

// op "error": code, message, field?, retryable, retry_after_ms?
struct ErrorReply {
  Error error;
  bool retryable = false;
  std::optional<std::int64_t> retry_after_ms;
};

using ReplyBody = std::variant<Submitted,
                               Jobs,
                               Finished,
                               Waited,
                               TargetsDone,
                               Listed,
                               LogPage,
                               QueuesInfo,
                               WorkersInfo,
                               StatsInfo,
                               Done,
                               Pong,
                               ErrorReply>;

struct Reply {
  Req req;
  ReplyBody body;
};

// ---------------------------------------------------------------- worker -> broker

enum class Phase : std::uint8_t {
  waiting,
  running,
  finished
};
[[nodiscard]] std::string_view to_string(Phase phase);

struct HeldAttempt {
  JobId id;
  Fence fence;  // keys `epoch`, `attempt`
  Phase phase = Phase::waiting;
};

// The newest message of the broker that a worker has: (epoch, n).
struct Seen {
  std::uint64_t epoch = 0;
  std::uint64_t n = 0;
  friend bool operator==(const Seen&, const Seen&) = default;
  friend auto operator<=>(const Seen&, const Seen&) = default;
};

struct Status {
  std::string node;       // node id: name@life
  std::string replaces;   // node id of the life before, or empty
  std::uint64_t seq = 0;  // grows with every status of this life
  std::uint32_t protocol = kProtocolVersion;
  std::uint32_t concurrency = 1;
  std::vector<std::string> tasks;
  std::vector<std::string> queues;  // empty = every queue
  std::vector<Header> labels;       // a map on the wire
  bool draining = false;
  std::string version;
  std::vector<IsolateFigures> isolates;  // of the tasks that run in isolates
  std::vector<HeldAttempt> held;
  Seen seen;
};

struct Usage {
  std::int64_t cpu_ms = 0;
  std::int64_t rss_bytes_max = 0;
};

struct AttemptResult {
  JobId id;
  Fence fence;  // keys `epoch`, `attempt`
  Outcome outcome = Outcome::completed;
  std::string result;  // bytes; completed only
  // failed only, a map `error` {code, message, retryable, retry_after_ms}:
  std::string error_code;
  std::string error;
  bool retryable = true;
  std::optional<std::int64_t> retry_after_ms;
  Usage usage;
};

struct Results {  // op "result"
  std::string node;
  std::vector<AttemptResult> results;  // 1..1000
};

struct Progress {
  std::string node;
  JobId id;
  Fence fence;
  std::uint32_t percent = 0;
  std::string message;
  std::optional<std::string> checkpoint;  // acknowledged with `ack` when durable
  std::uint64_t checkpoint_n = 0;  // the worker's number for this checkpoint, echoed in the ack
};

// What an attempt wrote to its job's log since the last one. Not answered and not repeated.
struct Log {
  std::string node;
  JobId id;
  Fence fence;
  std::string bytes;
};

struct Goodbye {
  std::string node;
};

using WorkerMessage = std::variant<Status, Results, Progress, Log, Goodbye>;

// ---------------------------------------------------------------- broker -> worker
// Each carries `op`, `epoch` and `n`, counted from 1 per node and epoch.

struct Welcome {
  std::int64_t heartbeat_ms = kHeartbeatDefaultMs;
  std::int64_t dead_after_ms = kDeadAfterDefaultMs;
  std::uint64_t result_bytes_max = kResultBytesMax;
  std::uint64_t message_bytes_max = kMessageBytesMax;
  // For a while nothing was taken: everything that has no answer is to be said again now.
  bool repeat = false;
};

struct RunJob {
  JobId id;
  Fence fence;
  std::string task, queue;
  std::string payload, content_type;
  std::int64_t timeout_ms = 0;  // 0 = none
  std::uint32_t life = 1;
  std::uint32_t retry_count = 0;
  std::uint32_t max_retries = 0;
  std::vector<Header> headers;  // a map on the wire
  std::string checkpoint;
};

struct Run {
  std::vector<RunJob> jobs;
};

struct AttemptRef {
  JobId id;
  Fence fence;
};

struct CancelAttempts {
  std::vector<AttemptRef> attempts;
};  // op "cancel"

struct DropAttempts {
  std::vector<AttemptRef> attempts;
};  // op "drop"

struct AckedAttempt {
  JobId id;
  Fence fence;
  bool stale = false;              // not recorded: the attempt was no longer current
  std::uint64_t checkpoint_n = 0;  // > 0: this acknowledges that checkpoint, not the result
};

struct Ack {
  std::vector<AckedAttempt> results;
};

struct DrainWish {};  // op "drain"

struct ConcurrencyWish {
  std::uint32_t concurrency = 1;
};  // op "set_concurrency"

struct Refused {
  Error error;
};  // op "error": what was sent, or an entry of it, was not taken, and why

using BrokerBody = std::
    variant<Welcome, Run, CancelAttempts, DropAttempts, Ack, DrainWish, ConcurrencyWish, Refused>;

struct BrokerMessage {
  Seen number;  // keys `epoch`, `n`; 0, 0 for `error`
  BrokerBody body;
};

// ---------------------------------------------------------------- broker -> watchers

// Topic frame "job.<what>.<queue>", "node.<what>" or "log.<id>", then one map frame.
struct JobEvent {
  std::string what;  // queued, started, progress, retrying, completed, failed, cancelled, requeued
  JobId id;
  std::string queue, task, node;
  std::uint32_t attempt = 0;
  std::uint32_t retry_count = 0;
  std::uint32_t percent = 0;
  std::string error_code;
  std::int64_t at_ms = 0;
};

struct NodeEvent {
  std::string what;  // joined, left, dead, draining
  std::string node;
  std::int64_t at_ms = 0;
};

// A piece of a job's log, when it is kept.
struct LogEvent {
  JobId id;
  LogChunk chunk;
};

using EventBody = std::variant<JobEvent, NodeEvent, LogEvent>;

struct SequencedEvent {
  EventBody event;
  std::uint64_t sequence = 0;  // of its publisher: the next one has one more
};

}  // namespace sluice
