#include "broker/store/projector.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "broker/store/ended_chunks.h"
#include "broker/store/log_entry.h"
#include "broker/store/view_changes.h"
#include "broker/store/view_row.h"
#include "common/check.h"
#include "common/mutant.h"

namespace sluice {

namespace {

constexpr std::size_t kEventsHeldMax = 1000;
// While Redis does one call the others are on their way, so that it need not wait for us; more
// would hold up the log.
constexpr std::size_t kCallsOutMax = 4;
// Queues in which nothing ends are looked through for what has grown too old, some at a time.
constexpr std::int64_t kSweepMs = 10'000;
constexpr std::size_t kSweptQueues = 16;

EndedRecord ended_record(const RecordHead& record) {
  return {hash_id(record.id), record.content_hash, record.state, record.finished_ms};
}

ViewRow row_of(const Change& change) {
  auto row = decode_record(change.record.bytes);
  CHECK(row.has_value());  // read_heads() has walked it
  row->has_payload = change.has_payload;
  row->job.spec.payload.assign(change.payload);
  return std::move(*row);
}

// A call that is out.
struct Call {
  bool is_last = false;   // of its round
  bool is_sweep = false;  // looks through queues in which nothing need have ended
  bool is_stale = false;  // what it finds too old may have been found by a call before it
  bool retires = false;   // removes what one found before it
};

// What is gathered for the next round, or was for the one under way.
struct Gathered {
  std::map<std::string, QueueRecord> queues;
  std::map<std::string, std::string> nodes;
  std::vector<std::string> events;
  std::string ended;                // records of removed jobs, for the ended memory
  std::int64_t oldest_ms = kNever;  // confirmed, of its entries
};

}  // namespace

struct Projector::State {
  ProjectorConfig config;
  std::uint64_t checkpoint = 0;
  std::uint64_t added = 0;  // the last entry given
  std::uint64_t hurry = 0;
  std::uint64_t finished_not_kept = 0;
  // What comes with its payload may be in the view already: of a round that was broken off, or
  // because memory is written again. (No time tells it: clocks are set back.)
  bool is_log_read = false;
  bool is_rewritten = false;
  std::uint64_t next_sequence = 1;

  // Jobs with a log, until the view has had them ended.
  std::set<std::string, std::less<>> logged;

  ViewChanges changes;
  Gathered gathered;

  // The round that is under way.
  bool is_open = false;
  std::vector<Change> round;
  Gathered round_gathered;
  std::size_t asked = 0;       // rows of the round that are in the view or on their way
  std::deque<Call> calls_out;  // in the order sent
  std::uint64_t round_target = 0;
  std::uint64_t round_not_kept = 0;
  std::vector<EndedRecord> round_not_kept_ended;  // their records for the ended memory
  std::vector<RetiredJob> to_retire;              // go with the next call
  std::int64_t round_started_ms = INT64_MIN / 2;
  std::int64_t interval_ms = 0;  // between the starts of two rounds

  EndedChunks chunks;

  // Every queue that was ever named, and which is swept next.
  std::set<std::string> known_queues;
  std::string swept;
  std::int64_t sweep_due_ms = INT64_MIN / 2;

  State(ProjectorConfig with, std::uint64_t chunk_first, std::uint64_t chunk_next)
      : config(with), chunks(with.ended_max, chunk_first, chunk_next) {}

  [[nodiscard]] bool has_gathered() const {
    return added > checkpoint || !changes.empty() || !gathered.nodes.empty() ||
           !gathered.events.empty();
  }

  void gather(const LogEntryPtr& entry, const RecordHead& record) {
    // A retried job comes with its payload too, but the view may have its life before.
    const bool is_born = record.has_payload && record.life == 1 && !is_log_read && !is_rewritten;
    changes.add({.entry = entry,
                 .record = record,
                 .payload_entry = record.has_payload ? entry : nullptr,
                 .payload = record.payload,
                 .has_payload = record.has_payload,
                 .is_removed = false,
                 .is_born = is_born});
  }

  // A round that takes more than half of its interval makes the next one wait longer, so that more
  // changes of one job are one write and more ended jobs need none; a short one brings it back.
  // What changes just behind the start of a round waits for its end and for the whole next round.
  void pace(std::int64_t took_ms) {
    if (2 * took_ms > interval_ms)
      interval_ms = std::min(2 * interval_ms, config.lag_max_ms - took_ms);
    else if (8 * took_ms < interval_ms)
      interval_ms = interval_ms / 2;
    interval_ms = std::max(interval_ms, config.interval_ms);
  }

  // One behind the last change that goes with the next call.
  [[nodiscard]] std::size_t call_end() const {
    std::size_t bytes = 0;
    std::size_t end = asked;
    for (; end < round.size() && end - asked < config.rows_per_call; ++end) {
      bytes += round[end].record.bytes.size() + round[end].payload.size();
      if (end > asked && bytes > config.bytes_per_call) break;
    }
    return end;
  }

  [[nodiscard]] bool is_last_call_next() const { return call_end() == round.size(); }

  void begin_round(Now now);
  void leave_out_surplus();
  void give_back();
  [[nodiscard]] ProjectRequest next_call(Now now);
  void add_trim(ProjectRequest& request, std::set<std::string_view> queues, Now now);
  bool add_sweep(std::set<std::string_view>& queues, Now now);
  void add_last(ProjectRequest& request, Now now);
};

Projector::Projector(ProjectorConfig config,
                     std::uint64_t checkpoint,
                     std::uint64_t ended_chunk_first,
                     std::uint64_t ended_chunk_next)
    : state_(std::make_unique<State>(config, ended_chunk_first, ended_chunk_next)) {
  state_->interval_ms = config.interval_ms;
  state_->checkpoint = state_->added = checkpoint;
}

Projector::~Projector() = default;

// ---------------------------------------------------------------- in

void Projector::add(const LogEntryPtr& entry, Now now) {
  State& state = *state_;
  const auto heads = read_heads(entry->blob);
  CHECK(heads.has_value());  // we or a broker of our kind wrote it; open() has read it too
  for (const RecordHead& record : heads->jobs)
    state.gather(entry, record);
  for (const std::string_view id : heads->removed)
    state.changes.add({.entry = entry, .record = {.id = id}, .is_removed = true});
  state.gathered.ended += heads->removed_ended;
  for (const QueueRecord& queue : heads->queues) {
    state.known_queues.insert(queue.name);
    state.gathered.queues[queue.name] = queue;
  }
  state.next_sequence = std::max(state.next_sequence, heads->next_sequence);
  state.added = entry->n;
  state.gathered.oldest_ms = std::min(state.gathered.oldest_ms, now.mono_ms);
}

void Projector::know_queue(std::string name) {
  state_->known_queues.insert(std::move(name));
}

void Projector::note_log(const JobId& id) {
  if (!MUTANT(log_left_behind)) state_->logged.emplace(id.view());
}

void Projector::set_rewritten(bool is_rewritten) {
  state_->is_rewritten = is_rewritten;
}

void Projector::restore_queue(const QueueRecord& queue) {
  state_->known_queues.insert(queue.name);
  state_->gathered.queues.try_emplace(queue.name, queue);
}

void Projector::note_node(NodeText node) {
  state_->gathered.nodes[node.node] = std::move(node.json);
}

void Projector::note_event(std::string json) {
  std::vector<std::string>& events = state_->gathered.events;
  if (events.size() < kEventsHeldMax) events.push_back(std::move(json));
}

void Projector::hurry(std::uint64_t batch) {
  state_->hurry = std::max(state_->hurry, batch);
}

void Projector::restart(std::uint64_t checkpoint,
                        const std::vector<LogEntryPtr>& entries,
                        Now now) {
  State& state = *state_;
  state.give_back();
  state.changes.clear();
  state.checkpoint = state.added = checkpoint;
  state.gathered.oldest_ms = kNever;
  state.is_log_read = true;
  for (const LogEntryPtr& entry : entries)
    add(entry, now);
  state.is_log_read = false;
}

// ---------------------------------------------------------------- a round

void Projector::State::begin_round(Now now) {
  is_open = true;
  round_started_ms = now.mono_ms;
  round_target = added;
  round = changes.take();
  round_gathered = std::exchange(gathered, {});
  asked = 0;
  leave_out_surplus();
  for (const Change& change : round)
    if (!logged.empty() && (change.is_removed || is_ended(change.record.state)))
      if (const auto found = logged.find(change.record.id); found != logged.end())
        logged.erase(found);
  // Jobs that the view has not seen together: such calls need not look for older hashes.
  std::stable_partition(round.begin(), round.end(), [](const Change& change) {
    return change.is_born;
  });
}

// Jobs that ended in this round and would be removed by count at its end: those that the view
// cannot have are left out, completed ones that it may have are deleted there instead of being
// written first. (Failed and cancelled ones are written: only the view has the payload that a retry
// needs.)
void Projector::State::leave_out_surplus() {
  std::map<std::pair<std::string_view, JobState>, std::uint64_t> surplus;
  const auto may_go = [](const Change& change) {
    return !change.is_removed && is_ended(change.record.state) && change.record.keep_result_ms == 0;
  };
  for (const Change& change : round)
    if (may_go(change)) ++surplus[{change.record.queue, change.record.state}];
  std::uint64_t left_out = 0;
  for (auto& [key, count] : surplus) {
    count = count > config.retention.keep_count ? count - config.retention.keep_count : 0;
    left_out += count;
  }
  if (left_out == 0) return;
  std::erase_if(round, [&](Change& change) {
    if (!may_go(change)) return false;
    if (!change.is_born && change.record.state != JobState::completed) return false;
    std::uint64_t& left = surplus[{change.record.queue, change.record.state}];
    if (left == 0) return false;
    --left;
    ++round_not_kept;
    round_not_kept_ended.push_back(ended_record(change.record));
    change.is_removed = true;
    return change.is_born && !logged.contains(change.record.id);
  });
}

// The round did not come through: what it had becomes part of the next one. (What it left out stays
// left out and counted.)
void Projector::State::give_back() {
  to_retire.clear();  // found again if they are still there
  if (!is_open) return;
  is_open = false;
  calls_out.clear();
  chunks.failed();
  std::vector<Change> newer = changes.take();
  for (Change& change : round) {
    change.is_born = false;
    changes.add(std::move(change));
  }
  for (Change& change : newer)
    changes.add(std::move(change));
  round.clear();
  gathered.queues.merge(round_gathered.queues);  // what was gathered since is newer and stays
  gathered.nodes.merge(round_gathered.nodes);
  gathered.events.insert(gathered.events.begin(),
                         round_gathered.events.begin(),
                         round_gathered.events.end());
  gathered.events.resize(std::min(gathered.events.size(), kEventsHeldMax));
  gathered.ended += round_gathered.ended;
  gathered.oldest_ms = std::min(gathered.oldest_ms, round_gathered.oldest_ms);
  round_gathered = {};
}

ProjectRequest Projector::State::next_call(Now now) {
  ProjectRequest request;
  std::string ended;
  std::set<std::string_view> ended_queues;
  if (asked == 0) {
    for (auto& [node, json] : round_gathered.nodes)
      request.nodes.push_back({node, json});
    request.events = round_gathered.events;
    for (EndedRecord record : round_not_kept_ended) {
      record.remove_at(now.wall_ms);
      append_ended(ended, record);
    }
    ended += round_gathered.ended;
  }
  const std::size_t end = call_end();
  for (; asked < end; ++asked) {
    const Change& change = round[asked];
    if (change.is_removed) {
      request.removed.emplace_back(change.record.id);
      continue;
    }
    if (is_ended(change.record.state)) {
      append_ended(ended, ended_record(change.record));
      ended_queues.insert(change.record.queue);
    }
    request.rows.push_back(row_of(change));
  }
  request.retired = std::exchange(to_retire, {});
  for (RetiredJob& job : request.retired) {
    job.ended.remove_at(now.wall_ms);
    append_ended(ended, job.ended);
  }
  chunks.put(request, std::move(ended), now);
  Call& call = calls_out.emplace_back();
  call.retires = !request.retired.empty();
  if (asked == round.size()) {
    call.is_last = true;
    add_last(request, now);
    call.is_sweep = add_sweep(ended_queues, now);
  }
  add_trim(request, std::move(ended_queues), now);
  return request;
}

void Projector::State::add_last(ProjectRequest& request, Now now) {
  request.checkpoint = round_target;
  request.ended_drop = chunks.take_drop(now);
  for (const auto& [name, queue] : round_gathered.queues)
    request.queues.push_back(queue);
  request.next_sequence = next_sequence;
  request.finished_not_kept = round_not_kept;
  request.view_lag_ms =
      round_gathered.oldest_ms == kNever ? 0 : now.mono_ms - round_gathered.oldest_ms;
}

void Projector::State::add_trim(ProjectRequest& request,
                                std::set<std::string_view> queues,
                                Now now) {
  request.trim_queues.assign(queues.begin(), queues.end());
  request.retention = config.retention;
  request.trim_before_batch = checkpoint;
  request.wall_ms = now.wall_ms;
}

// The next few queues, whether or not anything ended there.
bool Projector::State::add_sweep(std::set<std::string_view>& queues, Now now) {
  if (now.mono_ms < sweep_due_ms || known_queues.empty()) return false;
  sweep_due_ms = now.mono_ms + kSweepMs;
  auto next = known_queues.upper_bound(swept);
  for (std::size_t i = 0; i < std::min(kSweptQueues, known_queues.size()); ++i) {
    if (next == known_queues.end()) next = known_queues.begin();
    swept = *next;
    queues.insert(*next++);
  }
  return true;
}

// ---------------------------------------------------------------- out

std::optional<ProjectRequest> Projector::next(Now now) {
  State& state = *state_;
  if (next_deadline_mono_ms(now) > now.mono_ms) return std::nullopt;
  if (!state.is_open) state.begin_round(now);
  return state.next_call(now);
}

void Projector::done(const ProjectReply& reply, Now now) {
  State& state = *state_;
  if (state.calls_out.empty()) return;
  const Call call = state.calls_out.front();
  state.calls_out.pop_front();
  // A sweep that found something goes on at once.
  const bool is_stuck = call.retires && reply.removed == 0;  // at what people have spoiled
  const bool finds = !reply.to_retire.empty() && !call.is_stale && !is_stuck;
  if (call.is_sweep && (reply.removed > 0 || finds)) state.sweep_due_ms = now.mono_ms;
  if (finds) {
    state.to_retire = reply.to_retire;
    for (Call& later : state.calls_out)
      later.is_stale = true;  // sent before these are gone
  }
  if (!call.is_last) return;
  state.is_open = false;
  state.chunks.done();
  state.pace(now.mono_ms - state.round_started_ms);
  state.checkpoint = std::max(state.checkpoint, state.round_target);
  state.finished_not_kept += std::exchange(state.round_not_kept, 0);
  state.round_not_kept_ended.clear();
  state.round.clear();
  state.round_gathered = {};
}

void Projector::failed() {
  if (MUTANT(view_forgets_rows)) return state_->calls_out.clear();
  state_->give_back();
}

// ---------------------------------------------------------------- figures

std::uint64_t Projector::checkpoint() const {
  return state_->checkpoint;
}

bool Projector::has_work() const {
  return state_->is_open || state_->has_gathered();
}

std::int64_t Projector::next_deadline_mono_ms(Now now) const {
  const State& state = *state_;
  if (state.is_open) {
    const bool is_whole = !state.calls_out.empty() && state.calls_out.back().is_last;
    const bool is_full = state.calls_out.size() >= kCallsOutMax;
    // The last call moves the checkpoint: it may not even be under way while an earlier one can
    // still be refused, or it would speak for rows that the view does not have.
    const bool is_early = state.is_last_call_next() && !state.calls_out.empty();
    return is_whole || is_full || is_early ? kNever : now.mono_ms;
  }
  const std::int64_t sweep_ms = state.known_queues.empty() ? kNever : state.sweep_due_ms;
  if (!state.has_gathered() && state.to_retire.empty()) return std::max(now.mono_ms, sweep_ms);
  if (state.hurry > state.checkpoint) return now.mono_ms;
  return std::max(now.mono_ms, state.round_started_ms + state.interval_ms);
}

std::int64_t Projector::lag_ms(Now now) const {
  const std::int64_t oldest =
      std::min(state_->gathered.oldest_ms, state_->round_gathered.oldest_ms);
  return oldest == kNever ? 0 : now.mono_ms - oldest;
}

std::uint64_t Projector::finished_not_kept() const {
  return state_->finished_not_kept;
}

}  // namespace sluice
