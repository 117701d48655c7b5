// The broker without its sockets: core, commit pipeline, projector and outbox, put together. Events
// and store replies go in; frames to send and store requests come out. The loop carries bytes, the
// simulator carries the same values; both run this very code.
//
//   receive...()      what came from peers and from the store, in order
//   turn(now)         settle, write batches, release what is durable
//   take_frames(), take_store_requests()
//
// One thread. Pure: no socket, clock or log inside.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "broker/core/core.h"
#include "broker/outbox.h"
#include "broker/store/commit_pipeline.h"
#include "broker/store/projector.h"
#include "broker/store/store.h"
#include "broker/store/view_notes.h"

namespace sluice {

struct EngineConfig {
  CoreConfig core;
  ProjectorConfig view;
  std::string owner;                          // of the state: this broker process
  std::uint64_t logs_bytes_max = 1ULL << 30;  // of all jobs together
};

// What the loop logs; that of a job only once it is durable.
struct EngineFact {
  enum class Kind : std::uint8_t {
    job,         // one line per state change (debug)
    node,        // joined, left, dead, draining
    store_lost,  // disconnected or refusing; text says why
    store_back,
    store_resynced,     // under a new epoch; `count` batches were put back
    store_rolled_back,  // `count` batches could not be put back
    store_fenced,       // another broker owns the state
    store_unsafe,       // a setting of Redis became unsafe; text
    store_foreign,      // `count` keys of somebody else stood at names of ours, and were renamed
    bad_message,        // text
    memory_full,        // submits are told to come back
    store_rewritten,    // after store_rolled_back: the `count` jobs that memory has are in Redis
                        // again
  } kind = Kind::job;
  std::string what;
  std::string id;  // job or node
  std::string queue;
  std::string text;
  std::uint32_t attempt = 0;
  std::uint64_t count = 0;
};

// Figures of the engine itself, shown in `stats` beside the core's.
struct EngineCounters {
  std::uint64_t batches = 0, batch_jobs = 0;
  std::uint64_t bad_messages = 0;
  std::uint64_t log_chunks = 0, log_chunks_dropped = 0;  // of jobs' logs: kept, and not
};

class Engine {
 public:
  // The wall clock of `now` keeps epochs from being given twice.
  Engine(EngineConfig config, Opened opened, Now now);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  // ---- in
  void receive_producer(Peer peer, std::string_view frame, Now now);
  void receive_worker(Peer peer, std::string_view frame, Now now);
  void receive_store(StoreReply&& reply, Now now);
  // The loop did not turn for so long.
  void slept(std::int64_t gap_ms, Now now);
  // SIGTERM: refuse submits, deal nothing more.
  void stop(Now now);

  void turn(Now now);

  // ---- out
  void take_frames(std::vector<Frame>& frames);
  void take_store_requests(std::vector<StoreRequest>& requests);
  void take_facts(std::vector<EngineFact>& facts);

  // ---- state for the loop
  // Whether producers are to be read: not while the pipeline is full and the store still answers.
  [[nodiscard]] bool wants_producers(Now now) const;
  [[nodiscard]] std::int64_t next_deadline_mono_ms(Now now) const;

  [[nodiscard]] bool is_fenced() const { return is_fenced_; }

  // After stop(): everything is committed, said, and in the view.
  [[nodiscard]] bool is_drained() const;

  // Job events are made only while somebody listens, or for logs at debug.
  void want_job_events(bool wanted) { wants_job_events_ = wanted; }

  // The same for what jobs write to their logs.
  void want_log_events(bool wanted) { wants_log_events_ = wanted; }

  [[nodiscard]] const BrokerCore& core() const { return core_; }

  [[nodiscard]] const CommitPipeline& pipeline() const { return pipeline_; }

  [[nodiscard]] const Projector& projector() const { return projector_; }

  [[nodiscard]] const EngineCounters& counters() const { return counters_; }

 private:
  void handle(Event&& event, Now now);
  void say(Now now);
  void slow_down(std::size_t bytes, Now now);
  [[nodiscard]] bool is_spared(const WorkerSend& send);
  void say_reply(ReplySend& send, std::uint64_t after_batch);
  void say_facts(std::uint64_t after_batch, Now now);
  void say_job(const JobFact& fact, std::uint64_t after_batch, Now now);
  void say_node(const NodeFact& fact, std::uint64_t after_batch, Now now);
  void publish(const EventBody& body, std::uint64_t after_batch);
  void write_logs();
  void on_added_to_logs(const AddedToLogs& added);
  void write_batches(Now now);
  void watch_store(Now now);
  void watch_memory(Now now);
  void go_down(Now now);
  [[nodiscard]] std::string down_reason() const;
  [[nodiscard]] std::string refusal(const Req& req) const;
  void fail_waiting(Now now);
  void project(Now now);
  void tell_retired(const std::vector<RetiredJob>& jobs, Now now);
  void ask_waiting(Now now);
  template <typename Fetched>
  void on_fetched(Fetched&& fetched, Now now);

  void on_commit_reply(const CommitReply& reply, Now now);
  void on_project_reply(const ProjectReply& reply, Now now);
  void on_connected(const StoreConnected& connected, Now now);
  void on_disconnected(const StoreDisconnected& disconnected, Now now);
  void on_refused(const StoreRefused& refused, Now now);
  void tell_refused(const std::string& reason, Now now);
  void say_refused(Now now);
  void tell_accepted();
  void say_back();
  void on_took_over(const TookOver& took, Now now);
  void on_health(const StoreHealth& health, Now now);
  void fail_round();
  void begin_resync(const StoreMeta& meta, Now now);
  void look_again(std::uint64_t epoch, std::uint64_t last, Now now);
  void go_above(std::uint64_t epoch, Now now);
  void read_log(Now now);
  void on_log_read(LogRead& read, Now now);
  void watch_rewrite();
  void restore_queues();
  void finish_resync(Now now);
  void fenced();
  void fact(EngineFact::Kind kind, std::string text, std::uint64_t count = 0);

  EngineConfig config_;
  CommitPipeline pipeline_;
  Projector projector_;
  BrokerCore core_;
  Outbox outbox_;
  ViewNotes notes_;
  Output output_;
  EngineCounters counters_;

  std::vector<Frame> frames_;
  std::vector<StoreRequest> requests_;
  std::vector<EngineFact> facts_;

  // Of jobs, told when their batch is durable.
  struct HeldFact {
    std::uint64_t after_batch;
    EngineFact fact;
  };

  std::deque<HeldFact> held_facts_;
  std::int64_t slow_until_us_ = 0;  // monotonic: while the view lags, the next message is read then
  std::unordered_set<std::string>
      welcomed_;  // peers that have a welcome in the outbox, in an outage

  // Reads under way, by token, so that a disconnect can answer them, with the checkpoint that the
  // view had when they were sent.
  std::unordered_map<std::uint64_t, std::uint64_t> fetching_;

  // Reads that wait until the view has this batch: of a page, that of their arrival.
  struct WaitingFetch {
    std::uint64_t after_batch;
    Fetch fetch;
  };

  std::deque<WaitingFetch> waiting_fetches_;
  // After a resync the view may lack what memory has let go: no job is read before it has this
  // batch.
  std::uint64_t view_whole_from_ = 0;

  enum class StoreLife : std::uint8_t {
    up,
    away,
    taking_over,
    replaying,
    reading_log
  } store_life_ = StoreLife::up;
  CommitPipeline::Plan plan_;
  StoreMeta resync_meta_;
  // A resync that was begun goes on until it is finished, over as many connections as it takes.
  bool is_resync_open_ = false;
  bool needs_rewrite_ = false;  // in it more was found missing than the ring has
  // In it, what the log has after the view's checkpoint and before the ring, as it is read.
  ReadLog reading_;
  std::vector<LogEntryPtr> before_ring_;
  std::uint64_t replayed_told_ = 0;
  bool is_rewrite_open_ = false;    // after it memory is written again,
  std::uint64_t rewritten_in_ = 0;  // up to this batch; 0 = not known yet
  bool is_core_down_ = false;       // the core was told StoreDown
  bool is_loss_said_ = false;       // store_lost, and store_back not yet

  // Refusals come ten times a second and more; they are told when they begin, when their reason is
  // another, and every ten seconds.
  struct Refusals {
    std::string reason;
    std::uint64_t count = 0;  // since they were told last
    std::int64_t told_ms = INT64_MIN / 2;
    bool is_open = false;  // nothing was accepted since the last one
    bool is_told = false;  // and that it is over has not been
  } refusals_;

  std::int64_t say_full_at_ms_ = 0;  // not again before

  std::string away_reason_;
  std::size_t projects_out_ = 0;
  bool is_round_failed_ = false;  // the answers to its other calls mean nothing
  bool is_fenced_ = false;
  bool is_stopping_ = false;
  bool wants_job_events_ = false;
  bool wants_log_events_ = false;
  std::int64_t project_rest_until_ms_ = 0;
  std::int64_t take_over_again_ms_ = kNever;  // a take-over was refused: ask again then
  std::uint64_t event_sequence_ = 0;
  std::uint64_t log_sequence_ = 0;  // of its own: who hears no logs misses none of them

  // What jobs wrote, on its way to Redis, in the order sent.
  std::deque<std::shared_ptr<const std::vector<AddedLog>>> logs_out_;
  std::size_t log_bytes_out_ = 0;
};

}  // namespace sluice
