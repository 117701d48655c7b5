#include "broker/engine.h"

#include <algorithm>
#include <utility>

#include "broker/store/log_entry.h"
#include "common/check.h"
#include "common/protocol/codec.h"

namespace sluice {

namespace {

constexpr std::int64_t kRetryAfterMs = 1000;
constexpr const char* kNoAnswer = "no answer to a batch for a second";
// Of a read that nobody but us wants.
constexpr std::uint64_t kLook = UINT64_MAX;
// What may wait for its batch before producers are left unread.
constexpr std::size_t kHeldBytesMax = 64u << 20;
// Of jobs' logs, on their way to Redis: what is more is dropped, for batches come behind them.
constexpr std::size_t kLogBytesOutMax = 1u << 20;
// Behind by more than this, the view slows the producers down: their messages are read one by one,
// half a megabyte a second, so that a `ping` behind others' bulk submits is answered meanwhile.
constexpr std::int64_t kViewLagMaxMs = 1000;
constexpr std::int64_t kSlowUsPerByte = 2;
constexpr std::int64_t kSlowUsMin = 200;  // a message
constexpr std::int64_t kSlowUsMax = 300'000;

std::string_view word(JobFactKind kind) {
  switch (kind) {
    case JobFactKind::queued:
      return "queued";
    case JobFactKind::started:
      return "started";
    case JobFactKind::progress:
      return "progress";
    case JobFactKind::retrying:
      return "retrying";
    case JobFactKind::completed:
      return "completed";
    case JobFactKind::failed:
      return "failed";
    case JobFactKind::cancelled:
      return "cancelled";
    case JobFactKind::requeued:
      return "requeued";
  }
  return "queued";
}

std::string_view word(NodeFactKind kind) {
  switch (kind) {
    case NodeFactKind::joined:
      return "joined";
    case NodeFactKind::left:
      return "left";
    case NodeFactKind::dead:
      return "dead";
    case NodeFactKind::draining:
      return "draining";
  }
  return "joined";
}

EventNote note_of(const OperatorFact& fact) {
  using Kind = OperatorFact::Kind;
  switch (fact.kind) {
    case Kind::queue_paused:
      return {.what = "queue_paused", .queue = fact.name};
    case Kind::queue_resumed:
      return {.what = "queue_resumed", .queue = fact.name};
    case Kind::queue_purged:
      return {.what = "queue_purged", .queue = fact.name, .count = fact.count};
    case Kind::node_drain_asked:
      return {.what = "node_drain_asked", .node = fact.name};
    case Kind::node_concurrency_asked:
      return {.what = "node_concurrency_asked", .node = fact.name, .count = fact.count};
    case Kind::jobs_retried:
      return {.what = "jobs_retried", .count = fact.count};
    case Kind::jobs_deleted:
      return {.what = "jobs_deleted", .count = fact.count};
  }
  return {};
}

}  // namespace

Engine::Engine(EngineConfig config, Opened opened, Now now)
    : config_(std::move(config)),
      pipeline_(config_.owner,
                opened.run_id,
                opened.snapshot.epoch,
                opened.replaced_epoch,
                opened.snapshot.last,
                opened.unprojected,
                now),
      projector_(config_.view,
                 opened.snapshot.checkpoint,
                 opened.ended_chunk_first,
                 opened.ended_chunk_next),
      core_(config_.core, std::move(opened.snapshot), now) {
  for (QueueIndex index = 0; index < core_.queues().queue_count(); ++index)
    projector_.know_queue(core_.queues().entry(index).record.name);
  projector_.restart(projector_.checkpoint(), opened.unprojected, now);
  if (!opened.unprojected.empty()) restore_queues();
}

Engine::~Engine() = default;

// ---------------------------------------------------------------- in

void Engine::receive_producer(Peer peer, std::string_view frame, Now now) {
  if (projector_.lag_ms(now) >= kViewLagMaxMs) slow_down(frame.size(), now);
  auto request = decode_request(frame);
  if (request) return handle(RequestReceived{std::move(peer), std::move(*request)}, now);
  ++counters_.bad_messages;
  ErrorReply body;
  body.error = std::move(request.error().error);
  // Says nothing about any job, so it need not wait.
  frames_.push_back({Channel::producers,
                     std::move(peer),
                     encode_reply(Reply{std::move(request.error().req), std::move(body)})});
}

void Engine::receive_worker(Peer peer, std::string_view frame, Now now) {
  std::optional<Error> wrong_entry;
  auto message = decode_worker_message(frame, &wrong_entry);
  if (!message) wrong_entry = std::move(message.error());
  if (wrong_entry) {
    ++counters_.bad_messages;
    fact(EngineFact::Kind::bad_message, wrong_entry->where + ": " + wrong_entry->detail);
    frames_.push_back({Channel::workers,
                       peer,
                       encode_broker_message(BrokerMessage{{}, Refused{std::move(*wrong_entry)}})});
  }
  if (message) handle(WorkerMessageReceived{std::move(peer), std::move(*message)}, now);
}

void Engine::slept(std::int64_t gap_ms, Now now) {
  handle(Slept{gap_ms}, now);
}

void Engine::stop(Now now) {
  is_stopping_ = true;
  handle(Stopping{}, now);
  if (store_life_ != StoreLife::up) return;
  // A last look: was it emptied while there was nothing to write?
  fetching_[kLook] = projector_.checkpoint();
  requests_.emplace_back(FetchJobs{kLook, {}});
}

void Engine::handle(Event&& event, Now now) {
  core_.handle(std::move(event), now, output_);
}

// ---------------------------------------------------------------- the turn

void Engine::turn(Now now) {
  if (is_fenced_) return;
  if (now.mono_ms >= take_over_again_ms_) begin_resync(resync_meta_, now);
  watch_store(now);
  watch_memory(now);
  core_.settle(now, output_);
  if (output_.newer_epoch > pipeline_.epoch()) go_above(output_.newer_epoch, now);
  say(now);
  write_batches(now);
  watch_rewrite();
  notes_.release(pipeline_.confirmed(), projector_);
  project(now);
  ask_waiting(now);
  outbox_.release(pipeline_.confirmed(), frames_);
  while (!held_facts_.empty() && held_facts_.front().after_batch <= pipeline_.confirmed()) {
    facts_.push_back(std::move(held_facts_.front().fact));
    held_facts_.pop_front();
  }
  if (is_core_down_)
    outbox_.release_tellings(
        pipeline_.confirmed(),
        [this](const Req& req) { return refusal(req); },
        frames_);
}

void Engine::watch_memory(Now now) {
  constexpr std::int64_t kSayAgainMs = 60'000;
  if (!core_.is_memory_full() || now.mono_ms < say_full_at_ms_) return;
  say_full_at_ms_ = now.mono_ms + kSayAgainMs;
  fact(EngineFact::Kind::memory_full, {});
}

// Everything that the core wished in this turn goes to the outbox, behind the newest batch: the one
// that is being gathered if anything changed that is not written, else the last one written.
void Engine::say(Now now) {
  const std::uint64_t after_batch =
      core_.has_writes() ? pipeline_.next_n() : pipeline_.next_n() - 1;
  for (ReplySend& send : output_.replies)
    say_reply(send, after_batch);
  for (WorkerSend& send : output_.sends) {
    const auto* run = std::get_if<RunSend>(&send.message);
    if (run == nullptr && is_spared(send)) continue;
    outbox_.hold({Channel::workers,
                  std::move(send.peer),
                  run != nullptr ? encode_run(run->number, run->jobs)
                                 : encode_broker_message(std::get<BrokerMessage>(send.message))},
                 after_batch);
  }
  say_facts(after_batch, now);
  write_logs();
  for (Fetch& fetch : output_.fetches) {
    std::visit([&](const auto& request) { fetching_.emplace(request.token, 0); }, fetch);
    const bool is_page = std::holds_alternative<FetchList>(fetch);
    waiting_fetches_.push_back({is_page ? after_batch : view_whole_from_, std::move(fetch)});
  }
  output_.clear();
}

// A welcome in an outage, behind a batch that is not confirmed, to a peer that has one there: every
// status asks for another, for as long as it lasts, and at its end each node is owed one anyway.
bool Engine::is_spared(const WorkerSend& send) {
  if (!is_core_down_ || outbox_.held_count() == 0) return welcomed_.clear(), false;
  if (!std::holds_alternative<Welcome>(std::get<BrokerMessage>(send.message).body)) return false;
  return !welcomed_.insert(send.peer.routing_id).second;
}

void Engine::say_reply(ReplySend& send, std::uint64_t after_batch) {
  if (auto* stats = std::get_if<StatsInfo>(&send.reply.body)) {
    stats->numbers.emplace_back("batches", counters_.batches);
    stats->numbers.emplace_back("batch", pipeline_.confirmed());
    stats->numbers.emplace_back("checkpoint", projector_.checkpoint());
    stats->numbers.emplace_back("finished_not_kept", projector_.finished_not_kept());
    stats->numbers.emplace_back("replayed_missing", pipeline_.replayed_missing());
    stats->numbers.emplace_back("lost_batches", pipeline_.lost_batches());
    stats->numbers.emplace_back("bad_messages", counters_.bad_messages);
    stats->numbers.emplace_back("log_chunks", counters_.log_chunks);
    stats->numbers.emplace_back("log_chunks_dropped",
                                core_.counters().log_chunks_dropped + counters_.log_chunks_dropped);
  }
  Frame frame{Channel::producers, std::move(send.peer), encode_reply(send.reply)};
  if (send.is_immediate) {
    frames_.push_back(std::move(frame));
  } else if (send.tells_of_batch) {
    outbox_.hold(std::move(frame), after_batch, {send.reply.req, *send.tells_of_batch});
  } else {
    outbox_.hold(std::move(frame), after_batch);
  }
}

void Engine::say_facts(std::uint64_t after_batch, Now now) {
  for (const Fact& each : output_.facts) {
    if (const auto* job = std::get_if<JobFact>(&each)) {
      say_job(*job, after_batch, now);
    } else if (const auto* node = std::get_if<NodeFact>(&each)) {
      say_node(*node, after_batch, now);
    } else if (const auto* seen = std::get_if<NodeSeen>(&each)) {
      if (const auto index = core_.nodes().find(seen->node))
        notes_.note_node(core_.node_info(*index, now), after_batch, now);
    } else {
      notes_.note_event(note_of(std::get<OperatorFact>(each)), after_batch, now);
    }
  }
}

void Engine::say_job(const JobFact& fact, std::uint64_t after_batch, Now now) {
  const bool is_failure = fact.kind == JobFactKind::failed;
  if (!wants_job_events_ && !is_failure) return;
  // A job may have been given to a node since in the same turn.
  const bool has_node = fact.kind != JobFactKind::queued;
  JobEvent event{.what = std::string(word(fact.kind)),
                 .id = fact.job->id(),
                 .queue = fact.job->spec.queue,
                 .task = fact.job->spec.task,
                 .node = has_node ? fact.job->node : std::string(),
                 .attempt = fact.attempt,
                 .retry_count = fact.retry_count,
                 .percent = fact.job->progress_percent,
                 .error_code = fact.job->error_code,
                 .at_ms = now.wall_ms};
  if (is_failure)
    notes_.note_event({.what = "job_failed",
                       .node = event.node,
                       .queue = event.queue,
                       .job = event.id.view(),
                       .task = event.task,
                       .error_code = event.error_code,
                       .attempt = event.attempt,
                       .retry_count = event.retry_count},
                      after_batch,
                      now);
  held_facts_.push_back({after_batch,
                         {EngineFact::Kind::job,
                          event.what,
                          event.id.str(),
                          event.queue,
                          event.error_code,
                          event.attempt,
                          0}});
  publish(std::move(event), after_batch);
}

void Engine::say_node(const NodeFact& fact, std::uint64_t after_batch, Now now) {
  const std::string what(word(fact.kind)), event = "node_" + what;
  facts_.push_back({EngineFact::Kind::node, what, fact.node, {}, fact.detail, 0, 0});
  notes_.note_event({.what = event, .node = fact.node}, after_batch, now);
  if (fact.kind == NodeFactKind::left || fact.kind == NodeFactKind::dead)
    notes_.note_gone(fact.node, after_batch);
  publish(NodeEvent{what, fact.node, now.wall_ms}, after_batch);
}

void Engine::publish(const EventBody& body, std::uint64_t after_batch) {
  outbox_.hold(
      {Channel::watchers, Peer{event_topic(body), false}, encode_event(body, ++event_sequence_)},
      after_batch);
}

// Ahead of the batch that may end their jobs, and of every read of them: all goes in one line.
void Engine::write_logs() {
  if (output_.logs.empty()) return;
  auto added = std::make_shared<std::vector<AddedLog>>();
  for (AddedLog& log : output_.logs) {
    const std::size_t bytes = log.chunk.bytes.size();
    if (store_life_ != StoreLife::up || log_bytes_out_ + bytes > kLogBytesOutMax) {
      ++counters_.log_chunks_dropped;
      continue;
    }
    log_bytes_out_ += bytes;
    projector_.note_log(log.id);
    added->push_back(std::move(log));
  }
  if (added->empty()) return;
  logs_out_.push_back(std::move(added));
  requests_.emplace_back(AddToLogs{pipeline_.epoch(), logs_out_.back(), config_.logs_bytes_max});
}

// Group commit: while the pipeline is full, what changes gathers in the core.
void Engine::write_batches(Now now) {
  if (pipeline_.has_room() && core_.has_writes()) {
    const std::uint64_t n = pipeline_.next_n();
    const BatchWrites& writes = core_.take_writes(n);
    ++counters_.batches;
    counters_.batch_jobs += writes.jobs.size();
    pipeline_.append(
        std::make_shared<const LogEntry>(LogEntry{n, encode_entry(n, core_.epoch(), writes)}),
        now);
  }
  if (store_life_ != StoreLife::up && store_life_ != StoreLife::replaying) return;
  while (auto request = pipeline_.next(now))
    requests_.emplace_back(std::move(*request));
}

// Tells the core when the store does not take batches any more, and when it does again.
void Engine::watch_store(Now now) {
  const bool is_late = pipeline_.oldest_age_ms(now) >= pipeline_.patience_ms();
  const bool is_down = store_life_ != StoreLife::up || is_late;
  if (is_down == is_core_down_) return;
  // Back only when everything that was under way is through.
  if (!is_down && pipeline_.oldest_age_ms(now) > 0) return;
  is_core_down_ = is_down;
  if (is_down) return go_down(now);
  handle(StoreUp{}, now);
  refusals_.is_open = refusals_.is_told = false;
  away_reason_.clear();
  say_back();
}

void Engine::go_down(Now now) {
  handle(StoreDown{down_reason()}, now);
  fail_waiting(now);
  if (store_life_ != StoreLife::up) return;
  if (!refusals_.is_open) return fact(EngineFact::Kind::store_lost, kNoAnswer);
  if (!refusals_.is_told) say_refused(now);
}

// For people who are refused: what is wrong with Redis.
std::string Engine::down_reason() const {
  if (store_life_ == StoreLife::up && refusals_.is_open)
    return "Redis takes no changes just now: " + refusals_.reason;
  if (store_life_ == StoreLife::up) return "Redis does not answer just now";
  return "the broker cannot reach its Redis just now" +
         (away_reason_.empty() ? "" : ": " + away_reason_);
}

std::string Engine::refusal(const Req& req) const {
  ErrorReply body;
  body.error = {ErrorCode::store_unavailable,
                "",
                down_reason() +
                    "; what was asked for this job before is under way and may hold already: send "
                    "this again"};
  body.retryable = true;
  body.retry_after_ms = kRetryAfterMs;
  return encode_reply(Reply{req, std::move(body)});
}

void Engine::project(Now now) {
  if (store_life_ != StoreLife::up || is_round_failed_ || now.mono_ms < project_rest_until_ms_)
    return;
  while (auto request = projector_.next(now)) {
    request->epoch = pipeline_.epoch();
    tell_retired(request->retired, now);
    requests_.emplace_back(std::move(*request));
    ++projects_out_;
  }
}

// Before they are gone, so that there is no moment in which nobody knows of them.
void Engine::tell_retired(const std::vector<RetiredJob>& jobs, Now now) {
  if (jobs.empty()) return;
  Retired retired;
  for (const RetiredJob& job : jobs)
    retired.ended.push_back(job.ended);
  handle(std::move(retired), now);
}

// `list` and filters first bring the view up to the batch of their arrival, then read it. Other
// reads go at once, but for a view that a resync has not brought up yet.
void Engine::ask_waiting(Now now) {
  if (waiting_fetches_.empty() || store_life_ != StoreLife::up) return;
  std::uint64_t newest = 0;
  std::erase_if(waiting_fetches_, [&](WaitingFetch& waiting) {
    newest = std::max(newest, waiting.after_batch);
    if (waiting.after_batch > projector_.checkpoint()) return false;
    std::visit(
        [&](auto& fetch) {
          fetching_[fetch.token] = projector_.checkpoint();
          requests_.emplace_back(std::move(fetch));
        },
        waiting.fetch);
    return true;
  });
  if (waiting_fetches_.empty()) return;
  projector_.hurry(newest);
  project(now);
}

void Engine::fenced() {
  is_fenced_ = true;
  requests_.clear();
  frames_.clear();
  fact(EngineFact::Kind::store_fenced, "another broker has taken over this state");
}

void Engine::fact(EngineFact::Kind kind, std::string text, std::uint64_t count) {
  if (kind == EngineFact::Kind::store_lost) is_loss_said_ = true;
  facts_.push_back({kind, {}, {}, {}, std::move(text), 0, count});
}

// ---------------------------------------------------------------- out

void Engine::take_frames(std::vector<Frame>& frames) {
  std::swap(frames, frames_);
  frames_.clear();
}

void Engine::take_store_requests(std::vector<StoreRequest>& requests) {
  std::swap(requests, requests_);
  requests_.clear();
}

void Engine::take_facts(std::vector<EngineFact>& facts) {
  std::swap(facts, facts_);
  facts_.clear();
}

bool Engine::wants_producers(Now now) const {
  if (is_core_down_) return true;  // everything is read, and answered with store_unavailable
  const bool is_full = !pipeline_.has_room() && core_.has_writes();
  return !is_full && outbox_.held_bytes() < kHeldBytesMax &&
         (projector_.lag_ms(now) < kViewLagMaxMs || slow_until_us_ <= now.mono_ms * 1000);
}

// Taken from whatever comes, and kept to while the view lags.
void Engine::slow_down(std::size_t bytes, Now now) {
  const auto cost_us =
      std::clamp(static_cast<std::int64_t>(bytes) * kSlowUsPerByte, kSlowUsMin, kSlowUsMax);
  slow_until_us_ = std::max(slow_until_us_, now.mono_ms * 1000) + cost_us;
}

std::int64_t Engine::next_deadline_mono_ms(Now now) const {
  std::int64_t next = std::min(core_.next_deadline_mono_ms(now), pipeline_.next_deadline_mono_ms());
  next = std::min(next, take_over_again_ms_);
  if (const std::int64_t slow_until_ms = (slow_until_us_ + 999) / 1000; slow_until_ms > now.mono_ms)
    next = std::min(next, slow_until_ms);
  if (store_life_ == StoreLife::up && !is_round_failed_)
    next = std::min(next, std::max(projector_.next_deadline_mono_ms(now), project_rest_until_ms_));
  // The moment in which a busy store becomes one that is down.
  if (!is_core_down_ && pipeline_.oldest_age_ms(now) > 0)
    next = std::min(next, now.mono_ms + pipeline_.patience_ms() - pipeline_.oldest_age_ms(now));
  return next;
}

bool Engine::is_drained() const {
  return !fetching_.contains(kLook) && !is_resync_open_ && !core_.is_rewriting() &&
         !core_.is_purging() && !core_.has_writes() &&
         pipeline_.confirmed() + 1 == pipeline_.next_n() && outbox_.held_count() == 0 &&
         !projector_.has_work() && projects_out_ == 0;
}

}  // namespace sluice
