// The broker's decisions. A pure state machine: events and the time go in, wishes come out; no
// socket, store, clock, thread, randomness or logging inside.
//
// One turn of the engine:
//   handle(event, now, out)   any number of times, in the order of arrival
//   settle(now, out)          timers, dispatch, and the messages that this turn owes its nodes
//   take_writes(n)            when the store has room for a batch: everything changed since the
//   last one
// Nothing that is put into `out` may leave before the newest change made at that time is durable;
// the engine sees to that (ReplySend::is_immediate excepted). Pointers handed out are good until
// the next call.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/core/deadlines.h"
#include "broker/core/events.h"
#include "broker/core/job_table.h"
#include "broker/core/nodes.h"
#include "broker/core/output.h"
#include "broker/core/queue_table.h"
#include "broker/core/records.h"
#include "broker/core/waits.h"
#include "common/time.h"

namespace sluice {

struct CoreConfig {
  std::int64_t heartbeat_ms = kHeartbeatDefaultMs;
  std::int64_t dead_after_ms = kDeadAfterDefaultMs;
  std::int64_t grace_ms = kGraceDefaultMs;  // running jobs at a start wait so long for their node
  std::size_t ended_max = 1'000'000;
  std::uint64_t memory_max_bytes = 512ULL << 20;
  std::uint64_t queue_max = 0;  // waiting jobs per queue; 0 = no bound of its own
  std::string version = "0";
  Durability durability = Durability::everysec;
  bool is_insecure = false;
};

// What the core counts since its start, for `stats` and the simulator.
struct CoreCounters {
  std::uint64_t accepted = 0, duplicates = 0, conflicts = 0, rejected = 0;
  std::uint64_t dispatched = 0, resent_runs = 0, stale_results = 0, claimed = 0, late_results = 0;
  std::uint64_t dropped_attempts = 0, nodes_dead = 0, fetches = 0, cancel_lost = 0,
                illegal_fetched = 0, log_chunks_dropped = 0;
};

class BrokerCore {
 public:
  BrokerCore(CoreConfig config, Snapshot snapshot, Now now);

  // Moves out of `event` what it needs.
  void handle(Event&& event, Now now, Output& out);
  void settle(Now now, Output& out);

  // After RewriteAll, while some of memory has not been in take_writes().
  [[nodiscard]] bool is_rewriting() const { return rewrite_end_ > 0 || !rewrite_ended_.empty(); }

  // While a purge has not looked at every job of its queue.
  [[nodiscard]] bool is_purging() const { return !purges_.empty(); }

  [[nodiscard]] bool has_writes() const;
  // Everything changed since the last call, numbered `n`. Borrowed until the next call of the core.
  [[nodiscard]] const BatchWrites& take_writes(std::uint64_t n);

  // When settle() has something to do at the latest, on the monotonic clock; kNever when nothing
  // waits.
  [[nodiscard]] std::int64_t next_deadline_mono_ms(Now now) const;

  // ---- for audits, figures and tests
  [[nodiscard]] const JobTable& jobs() const { return jobs_; }

  [[nodiscard]] const Nodes& nodes() const { return nodes_; }

  // A node as people are shown it.
  [[nodiscard]] NodeInfo node_info(NodeIndex index, Now now) const;

  [[nodiscard]] const QueueTable& queues() const { return queues_; }

  [[nodiscard]] const EndedMemory& ended() const { return ended_; }

  [[nodiscard]] const CoreCounters& counters() const { return counters_; }

  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }

  [[nodiscard]] bool is_store_down() const { return is_store_down_; }

  // Submits are told to come back until jobs have ended.
  [[nodiscard]] bool is_memory_full() const;

  [[nodiscard]] std::uint64_t running_count() const;

 private:
  // A request whose answer needs jobs or a page from the view. It is handled again when they are
  // here.
  struct Parked {
    RequestReceived request;
    std::string cursor;                  // of the page that its filter stands for
    std::vector<JobId> ids;              // that were fetched
    JobState state = JobState::running;  // of a log's job, before the log is read
  };

  // What a request was put aside for, when it is handled again.
  struct FetchedIds {
    std::vector<JobId> asked;
    std::vector<JobId> absent;  // sorted: those that the view does not have
  };

  // What a request may know beyond memory while it is handled.
  struct Context {
    const Peer& peer;
    const Req& req;
    const FetchedIds* fetched = nullptr;
    std::string cursor;
  };

  struct PurgeOp {
    Peer peer;
    Req req;
    std::string queue;
    std::int64_t started_ms = 0;
    JobSlot next = 0;
    std::uint64_t count = 0;
  };

  // core_requests.cpp, core_queries.cpp: what producers ask
  void on_request(
      RequestReceived& event, const FetchedIds* fetched, std::string cursor, Now now, Output& out);
  void on_submit(
      RequestReceived& event, Submit& submit, const Context& context, Now now, Output& out);
  // Whether it brings a job that this broker may not know yet.
  [[nodiscard]] bool has_new_job(const Submit& submit) const;
  [[nodiscard]] std::optional<Error> refuse_submit() const;
  [[nodiscard]] SubmitResult submit_one(JobSpec&& spec, Now now, Output& out);
  [[nodiscard]] std::optional<SubmitResult> known_submit(const JobSpec& spec) const;
  void on_get(RequestReceived& event, const Get& get, const Context& context, Output& out);
  void on_wait(
      RequestReceived& event, const Wait& wait, const Context& context, Now now, Output& out);
  template <typename Operation>
  void on_targets(
      RequestReceived& event, Operation& operation, const Context& context, Now now, Output& out);
  [[nodiscard]] Error store_is_away(const RequestBody& body) const;
  [[nodiscard]] std::uint64_t batch_of(const JobId& id) const;
  [[nodiscard]] std::uint64_t newest_batch(const Submitted& answer) const;
  static void tell_operation(const TargetsDone& answer, Output& out);
  [[nodiscard]] TargetResult apply(const Cancel& cancel, const JobId& id, Now now, Output& out);
  [[nodiscard]] TargetResult apply(const Retry& retry, const JobId& id, Now now, Output& out);
  [[nodiscard]] TargetResult apply(const Delete& operation, const JobId& id, Now now, Output& out);
  void on_list(RequestReceived& event, const List& list, Output& out);
  void on_logs(RequestReceived& event, const Logs& logs, const Context& context, Output& out);
  void tell_unfinished(ReplySend& send) const;
  void add_waited(const JobId& id, Waits::Opening& opening);
  [[nodiscard]] JobView known_view(const JobId& id) const;
  [[nodiscard]] TargetResult gone(const JobId& id) const;
  void on_pause(const std::string& queue, bool is_paused, const Context& context, Output& out);
  void on_wish(const std::string& node, BrokerBody wish, const Context& context, Output& out);
  [[nodiscard]] QueuesInfo queues_info(Now now);
  [[nodiscard]] WorkersInfo workers_info(Now now) const;
  [[nodiscard]] StatsInfo stats_info(Now now) const;
  void reply(
      const Peer& peer, const Req& req, ReplyBody body, Output& out, bool is_immediate = false);
  void refuse(const Peer& peer, const Req& req, Error error, Output& out);

  // core_fetch.cpp: reads of what is not in memory
  [[nodiscard]] bool may_be_cold(const JobId& id, const Context& context) const;
  void park(RequestReceived& event, std::vector<JobId> ids, const Context& context, Output& out);
  void on_fetched(FetchedJobs& fetched, Now now, Output& out);
  void on_fetched_list(FetchedList& fetched, Now now, Output& out);
  void on_fetched_job_log(FetchedJobLog& fetched, Output& out);
  void on_fetch_failed(std::uint64_t token, Output& out);
  void drop_cold_jobs();
  void on_projected(std::uint64_t checkpoint, Now now);

  // core_workers.cpp: what nodes report
  void on_worker_message(WorkerMessageReceived& event, Now now, Output& out);
  void on_status(const Peer& peer, Status& status, Now now, Output& out);
  void update_node(Node& node, Status& status);
  void reconcile(NodeIndex index, const Status& status, Now now, Output& out);
  void adopt_unclaimed(NodeIndex index, const Status& status);
  [[nodiscard]] std::vector<JobSlot> unclaimed_of(const std::string& node);
  void on_result(NodeIndex index, AttemptResult& result, Now now, Output& out);
  void on_progress(NodeIndex index, Progress& progress, Output& out);
  void on_log(const Node& node, Log& log, Now now, Output& out);
  void on_goodbye(NodeIndex index, Now now, Output& out);
  void remove_node(NodeIndex index, NodeFactKind why, Now now, Output& out);
  void send_turn(NodeIndex index, Output& out);
  void send_runs(Node& node, Output& out);

  // core_jobs.cpp: the life of a job
  JobSlot add_job(JobSpec&& spec, Now now, Output& out);
  void restore(Job&& job, Now now);
  void move(JobSlot slot, JobState to);
  void mark_dirty(JobSlot slot);
  void mark_queue_dirty(QueueIndex index);
  void make_ready(JobSlot slot, Output& out);
  void requeue(JobSlot slot, Output& out);
  void dispatch_to(JobSlot slot, NodeIndex index, Now now, Output& out);
  void detach(JobSlot slot);
  void end_job(JobSlot slot, JobState state, Now now, Output& out);
  void fail_job(JobSlot slot, std::string code, std::string text, Now now, Output& out);
  void fail_without_payload(JobSlot slot, Now now, Output& out);
  void finish_attempt(JobSlot slot, AttemptResult& result, Now now, Output& out);
  void fail_attempt(JobSlot slot, AttemptResult& result, Now now, Output& out);
  void hand_back(JobSlot slot, Now now, Output& out);
  void lose(JobSlot slot, Now now, Output& out);
  void claim(JobSlot slot, NodeIndex index, Now now);
  void time_out(JobSlot slot, Now now, Output& out);
  void record_attempt(Job& job, AttemptEnd end, const AttemptResult* result, Now now);
  [[nodiscard]] bool is_current(const LiveJob& live, const std::string& node, Fence fence) const;
  [[nodiscard]] static bool is_claimable(const Job& job);
  void fact(JobFactKind kind, const Job& job, Output& out) const;
  QueueTotals& totals(LiveJob& live);

  // core_settle.cpp: timers and dispatch
  void run_timers(Now now, Output& out);
  void run_wall_timers(Now now, Output& out);
  void check_silence(Now now, Output& out);
  void end_grace(Now now, Output& out);
  void purge_some(Now now, Output& out);
  void begin_rewrite();
  void rewrite_some();

  // A slice at a time: the next one when the one before is in a batch.
  [[nodiscard]] bool may_rewrite() const { return is_rewriting() && is_slice_written_; }

  void dispatch(Now now, Output& out);
  [[nodiscard]] NodeIndex pick_node(LineIndex line);

  [[nodiscard]] std::int64_t core_ms(Now now) const { return now.mono_ms - gap_ms_; }

  void on_store_down(Now now);
  void on_store_up(Now now);
  void mark_rates(Now now);

  CoreConfig config_;
  std::uint64_t epoch_ = 0;
  JobTable jobs_;
  QueueTable queues_;
  Nodes nodes_;
  EndedMemory ended_;
  Waits waits_;
  CoreCounters counters_;

  // Deadlines of waiting jobs (due, expiry) on the wall clock, of running ones (time-out) on core
  // time.
  Deadlines wall_deadlines_;
  Deadlines run_deadlines_;

  std::uint64_t next_sequence_ = 1;
  std::vector<JobSlot> dirty_;
  std::vector<QueueIndex> dirty_queues_;
  BatchWrites writes_;
  std::vector<RemovedJob> removed_;  // deleted since the last batch
  // Deleted jobs that the view still shows, and the batch that takes them out of it: whoever
  // fetches one must not find it.
  std::unordered_map<JobId, std::uint64_t> deleted_;
  // Ended jobs that the view does not have yet: (batch, slot), in order.
  std::deque<std::pair<std::uint64_t, JobSlot>> awaiting_view_;

  std::unordered_map<std::uint64_t, Parked> parked_;
  std::uint64_t next_token_ = 1;
  std::vector<JobSlot> cold_;   // read in this turn
  bool has_cold_jobs_ = false;  // the view may hold jobs that memory does not know

  // Core time = monotonic time less every gap in which nothing could be heard or decided.
  std::int64_t gap_ms_ = 0;
  std::int64_t down_since_ms_ = 0;  // monotonic; while the store is down
  bool is_store_down_ = false;
  std::string store_down_reason_;
  bool is_store_full_ = false;
  bool is_stopping_ = false;
  bool is_turn_open_ = false;
  std::vector<JobSlot> unclaimed_;        // running by the store's word, their node not heard yet
  std::int64_t grace_until_ms_ = kNever;  // core time: unclaimed running jobs are lost then
  std::int64_t next_silence_ms_ = kNever;
  std::int64_t next_rate_mark_ms_ = 0;
  std::deque<PurgeOp> purges_;
  JobSlot rewrite_next_ = 0, rewrite_end_ = 0;
  bool is_slice_written_ = true;           // of the rewrite: the last one has been in take_writes()
  std::deque<EndedRecord> rewrite_ended_;  // still to be written again
  std::vector<EndedRecord> ended_again_;   // with the next batch

  // For each line the nodes that fit, as of version().
  struct Fitting {
    std::uint64_t version = 0;
    std::vector<NodeIndex> nodes;
  };

  std::vector<Fitting> fitting_;
  std::uint64_t reconcile_mark_ = 0;
  // Number of our newest message to any node, in our epoch. One for all of them: a node that was
  // taken for dead and comes back knows numbers that we have forgotten, and takes higher ones only.
  std::uint64_t newest_n_ = 0;
};

}  // namespace sluice
