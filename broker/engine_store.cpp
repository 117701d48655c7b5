// The engine's side of its store: what each answer means, what a refusal or a lost connection does,
// and how a state that is not the one we left is taken and brought up again.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "broker/engine.h"
#include "common/protocol/codec.h"

namespace sluice {

namespace {

constexpr std::int64_t kProjectRestMs = 100;
constexpr std::int64_t kRefusedAgainMs = 10'000;
constexpr std::size_t kShownBytesMax = 200;

}  // namespace

void Engine::receive_store(StoreReply&& reply, Now now) {
  if (is_fenced_) return;
  if (auto* commit = std::get_if<CommitReply>(&reply)) return on_commit_reply(*commit, now);
  if (auto* project = std::get_if<ProjectReply>(&reply)) return on_project_reply(*project, now);
  if (auto* jobs = std::get_if<FetchedJobs>(&reply)) return on_fetched(std::move(*jobs), now);
  if (auto* list = std::get_if<FetchedList>(&reply)) return on_fetched(std::move(*list), now);
  if (auto* log = std::get_if<FetchedJobLog>(&reply)) {
    fetching_.erase(log->token);
    return handle(std::move(*log), now);
  }
  if (const auto* added = std::get_if<AddedToLogs>(&reply)) return on_added_to_logs(*added);
  if (auto* read = std::get_if<LogRead>(&reply)) return on_log_read(*read, now);
  if (auto* took = std::get_if<TookOver>(&reply)) return on_took_over(*took, now);
  if (auto* connected = std::get_if<StoreConnected>(&reply)) return on_connected(*connected, now);
  if (auto* gone = std::get_if<StoreDisconnected>(&reply)) return on_disconnected(*gone, now);
  if (auto* refused = std::get_if<StoreRefused>(&reply)) return on_refused(*refused, now);
  on_health(std::get<StoreHealth>(reply), now);
}

void Engine::on_commit_reply(const CommitReply& reply, Now now) {
  if (store_life_ == StoreLife::away || store_life_ == StoreLife::taking_over) return;
  switch (pipeline_.on_reply(reply, now)) {
    case CommitPipeline::Verdict::fenced:
      return fenced();
    case CommitPipeline::Verdict::resync:
      return look_again(pipeline_.epoch(),
                        reply.answer == CommitAnswer::gap ? reply.value : 0,
                        now);
    case CommitPipeline::Verdict::fine:
      break;
  }
  if (reply.answer == CommitAnswer::ok) tell_accepted();
  if (store_life_ == StoreLife::replaying) {
    if (!pipeline_.is_replaying()) read_log(now);
    return;
  }
  if (store_life_ == StoreLife::reading_log) return;  // finish_resync() takes it with the rest
  for (const LogEntryPtr& entry : pipeline_.take_confirmed())
    projector_.add(entry, now);
}

// What became of the oldest that is out; published once it is kept.
void Engine::on_added_to_logs(const AddedToLogs& added) {
  if (logs_out_.empty()) return;
  const auto chunks = std::move(logs_out_.front());
  logs_out_.pop_front();
  for (const AddedLog& log : *chunks)
    log_bytes_out_ -= log.chunk.bytes.size();
  if (!added.is_taken || added.ends.size() != chunks->size()) {
    counters_.log_chunks_dropped += chunks->size();
    return;
  }
  for (std::size_t i = 0; i < chunks->size(); ++i) {
    ++(added.ends[i] == 0 ? counters_.log_chunks_dropped : counters_.log_chunks);
    if (added.ends[i] == 0 || !wants_log_events_) continue;
    LogEvent event{(*chunks)[i].id, (*chunks)[i].chunk};
    event.chunk.offset = added.ends[i] - event.chunk.bytes.size();
    frames_.push_back(
        {Channel::watchers, Peer{event_topic(event), false}, encode_event(event, ++log_sequence_)});
  }
}

// A view that is behind where it was has lost what was asked for.
template <typename Fetched>
void Engine::on_fetched(Fetched&& fetched, Now now) {
  const auto asked = fetching_.extract(fetched.token);
  bool is_behind = !asked.empty() && fetched.batch < asked.mapped();
  if constexpr (std::is_same_v<std::decay_t<Fetched>, FetchedList>)
    is_behind = is_behind && !fetched.error;
  else
    is_behind = is_behind || fetched.epoch != pipeline_.epoch();
  if (!is_behind) return handle(std::forward<Fetched>(fetched), now);
  handle(FetchFailed{fetched.token}, now);
  if (store_life_ == StoreLife::up) look_again(pipeline_.epoch(), 0, now);
}

void Engine::on_project_reply(const ProjectReply& reply, Now now) {
  if (projects_out_ > 0) --projects_out_;
  if (reply.set_aside > 0) fact(EngineFact::Kind::store_foreign, "", reply.set_aside);
  if (reply.fenced) return fenced();
  if (reply.rolled_back) {
    fail_round();
    if (store_life_ == StoreLife::up) look_again(pipeline_.epoch(), 0, now);
    return;
  }
  if (is_round_failed_) {
    is_round_failed_ = projects_out_ > 0;
    return;
  }
  if (store_life_ != StoreLife::up) return fail_round();
  tell_accepted();
  const std::uint64_t before = projector_.checkpoint();
  projector_.done(reply, now);
  if (projector_.checkpoint() != before) handle(Projected{projector_.checkpoint()}, now);
}

void Engine::fail_round() {
  projector_.failed();
  is_round_failed_ = projects_out_ > 0;
}

void Engine::on_disconnected(const StoreDisconnected& disconnected, Now now) {
  const std::string reason = disconnected.reason.substr(0, kShownBytesMax);
  const bool is_news = store_life_ != StoreLife::away || away_reason_ != reason;
  store_life_ = StoreLife::away;
  away_reason_ = reason;
  refusals_.is_open = false;
  if (is_news) fact(EngineFact::Kind::store_lost, reason);
  if (is_news && is_core_down_) handle(StoreDown{down_reason()}, now);
  take_over_again_ms_ = kNever;
  pipeline_.on_disconnected();
  while (!logs_out_.empty())
    on_added_to_logs({.is_taken = false, .ends = {}});
  projects_out_ = 0;
  fail_round();
  // Reads are simply asked again by whoever wanted them.
  for (const auto& [token, checkpoint] : fetching_)
    handle(FetchFailed{token}, now);
  fetching_.clear();
  waiting_fetches_.clear();
}

void Engine::on_connected(const StoreConnected& connected, Now now) {
  switch (pipeline_.on_connected(connected)) {
    case CommitPipeline::Verdict::fenced:
      return fenced();
    case CommitPipeline::Verdict::resync:
      return begin_resync(connected.meta, now);
    case CommitPipeline::Verdict::fine:
      // The log is whole, but the view has not been brought up to it.
      if (is_resync_open_) return begin_resync(connected.meta, now);
      store_life_ = StoreLife::up;
  }
}

void Engine::on_refused(const StoreRefused& refused, Now now) {
  // Nobody waits for these, and a Redis without memory for them may have it for batches.
  if (refused.what == StoreRefused::What::logs)
    return on_added_to_logs({.is_taken = false, .ends = {}});
  switch (refused.what) {
    case StoreRefused::What::commit:
      pipeline_.on_refused(now);
      break;
    case StoreRefused::What::project:
      if (projects_out_ > 0) --projects_out_;
      fail_round();
      project_rest_until_ms_ = now.mono_ms + kProjectRestMs;
      fail_waiting(now);  // they wait for the view, and who knows how long
      break;
    case StoreRefused::What::fetch:
      if (fetching_.erase(refused.n) > 0) handle(FetchFailed{refused.n}, now);
      break;
    case StoreRefused::What::logs:
      return;
    case StoreRefused::What::read_log:  // a take-over is cheap, and what follows it is the same
    case StoreRefused::What::take_over:
      take_over_again_ms_ = now.mono_ms + kProjectRestMs;
      break;
  }
  tell_refused(refused.reason.substr(0, kShownBytesMax), now);
}

void Engine::tell_refused(const std::string& reason, Now now) {
  Refusals& refusals = refusals_;
  ++refusals.count;
  const bool is_news = refusals.reason != reason;
  refusals.is_open = true;
  if (!is_news && now.mono_ms < refusals.told_ms + kRefusedAgainMs) return;
  refusals.reason = reason;
  say_refused(now);
  if (is_core_down_) handle(StoreDown{down_reason()}, now);
}

void Engine::say_refused(Now now) {
  fact(EngineFact::Kind::store_lost, refusals_.reason, std::exchange(refusals_.count, 0));
  refusals_.told_ms = now.mono_ms;
  refusals_.is_told = true;
}

// Before the second in which a store counts as down was over.
void Engine::tell_accepted() {
  refusals_.is_open = false;
  if (!is_core_down_ && std::exchange(refusals_.is_told, false)) say_back();
}

// A resync of a store that was there all the time is no loss, and its end none to come back from.
void Engine::say_back() {
  if (std::exchange(is_loss_said_, false)) fact(EngineFact::Kind::store_back, "");
}

// What waits for the view to come up to its arrival.
void Engine::fail_waiting(Now now) {
  for (const WaitingFetch& waiting : std::exchange(waiting_fetches_, {})) {
    const std::uint64_t token =
        std::visit([](const auto& fetch) { return fetch.token; }, waiting.fetch);
    fetching_.erase(token);
    handle(FetchFailed{token}, now);
  }
}

void Engine::on_health(const StoreHealth& health, Now now) {
  handle(StoreFull{health.is_full}, now);
  handle(DurabilityIs{health.durability}, now);
  if (!health.unsafe.empty()) fact(EngineFact::Kind::store_unsafe, health.unsafe);
  // Emptied, or taken, while there was nothing to write.
  if (store_life_ == StoreLife::up && health.epoch != pipeline_.epoch())
    look_again(std::max(health.epoch, pipeline_.epoch()), 0, now);
}

// ---------------------------------------------------------------- resync

// The state in Redis is not the one that we left: it is another process, older, or empty. We take
// it under a new epoch, put back what it lost, and bring the view up again.
void Engine::begin_resync(const StoreMeta& meta, Now now) {
  store_life_ = StoreLife::taking_over;
  take_over_again_ms_ = kNever;
  resync_meta_ = meta;
  plan_ = pipeline_.plan_take_over(meta, static_cast<std::uint64_t>(now.wall_ms));
  is_resync_open_ = true;
  // Asked for once is asked for: when the answer is lost, the next plan finds nothing missing.
  needs_rewrite_ = needs_rewrite_ || plan_.missing > 0;
  requests_.emplace_back(plan_.request);
}

// Without a reconnect. What is stored is known so far only: the epoch, and the log's end (0 =
// none); an epoch above any that we know takes it, if it is nobody else's.
void Engine::look_again(std::uint64_t epoch, std::uint64_t last, Now now) {
  StoreMeta meta;
  meta.exists = last > 0;
  meta.epoch = epoch;
  meta.last = last;
  begin_resync(meta, now);
}

// A node that has obeyed this epoch takes nothing from us. Either another broker has it, and the
// take-over is refused; or Redis lost it, and nobody but we can go above it.
void Engine::go_above(std::uint64_t epoch, Now now) {
  if (store_life_ != StoreLife::up) return;  // its next status says so again
  fact(EngineFact::Kind::store_lost, "a node has obeyed a newer broker: asking who owns the state");
  look_again(epoch, pipeline_.next_n() - 1, now);
}

void Engine::on_took_over(const TookOver& took, Now now) {
  if (store_life_ != StoreLife::taking_over) return;
  switch (pipeline_.on_took_over(took, plan_, now)) {
    case CommitPipeline::Verdict::fenced:
      return fenced();
    case CommitPipeline::Verdict::resync:
      return begin_resync(took.meta, now);
    case CommitPipeline::Verdict::fine:
      break;
  }
  resync_meta_ = took.meta;
  handle(EpochTaken{pipeline_.epoch()}, now);
  store_life_ = StoreLife::replaying;
  before_ring_.clear();
  reading_.from = resync_meta_.checkpoint + 1;
  if (!pipeline_.is_replaying()) read_log(now);
}

// The view is brought up from its checkpoint by every entry that the log has, or a start would find
// jobs older than the log says. The ring may begin later than that: what stands before it is read.
void Engine::read_log(Now now) {
  reading_.to = pipeline_.ring_first() - 1;
  if (reading_.from > reading_.to) return finish_resync(now);
  store_life_ = StoreLife::reading_log;
  requests_.emplace_back(reading_);
}

void Engine::on_log_read(LogRead& read, Now now) {
  if (store_life_ != StoreLife::reading_log) return;
  const bool is_all = read.entries.size() < kLogPage;
  reading_.from = (is_all ? reading_.to : read.entries.back()->n) + 1;
  for (LogEntryPtr& entry : read.entries)
    before_ring_.push_back(std::move(entry));
  read_log(now);
}

// A start finds queued jobs by the queues that the view knows, and an entry names only those that
// changed in it: what an emptied Redis knew of the others went with it.
void Engine::restore_queues() {
  for (QueueIndex index = 0; index < core_.queues().queue_count(); ++index)
    projector_.restore_queue(core_.queues().entry(index).record);
}

void Engine::finish_resync(Now now) {
  store_life_ = StoreLife::up;
  is_resync_open_ = false;
  is_round_failed_ = projects_out_ > 0;
  (void)pipeline_.take_confirmed();
  std::vector<LogEntryPtr> entries = std::exchange(before_ring_, {});
  const std::uint64_t after = std::max(resync_meta_.checkpoint, pipeline_.ring_first() - 1);
  const auto ring = pipeline_.entries_after(after);
  entries.insert(entries.end(), ring->begin(), ring->end());
  projector_.restart(resync_meta_.checkpoint, entries, now);
  view_whole_from_ = pipeline_.confirmed();
  restore_queues();
  const std::uint64_t replayed = pipeline_.replayed_missing();
  const std::uint64_t put_back = replayed - std::exchange(replayed_told_, replayed);
  if (!std::exchange(needs_rewrite_, false))
    return fact(EngineFact::Kind::store_resynced, "", put_back);
  projector_.set_rewritten(true);
  handle(RewriteAll{}, now);
  is_rewrite_open_ = true;
  rewritten_in_ = 0;
  fact(EngineFact::Kind::store_rolled_back,
       "Redis lost more than its last seconds (emptied? started without its append-only file?): "
       "every job that has not ended is being written again, results of ended ones may be gone",
       plan_.missing);
}

// Told when it holds, for a broker that is killed before leaves the rest behind.
void Engine::watch_rewrite() {
  if (!is_rewrite_open_ || core_.is_rewriting()) return;
  if (rewritten_in_ == 0) rewritten_in_ = pipeline_.next_n() - (core_.has_writes() ? 0 : 1);
  if (pipeline_.confirmed() < rewritten_in_) return;
  is_rewrite_open_ = false;
  projector_.set_rewritten(false);  // it has been given all of it
  fact(EngineFact::Kind::store_rewritten, "", core_.jobs().size());
}

}  // namespace sluice
