#include "broker/store/projector.h"

#include <algorithm>
#include <map>
#include <memory>
#include <unordered_set>
#include <utility>

#include "broker/store/log_entry.h"
#include "broker/store/view_row.h"
#include "common/check.h"

namespace sluice {

namespace {

constexpr std::uint64_t kChunkRecordsMax = 65'536;
constexpr std::int64_t kChunkMs = 60'000;
constexpr std::int64_t kEndedKeepMs = 10LL * 60 * 1000;
constexpr std::size_t kEventsHeldMax = 1000;

// What is to be written about one job.
struct Change {
  ViewRow row;
  bool is_removed = false;
  // Made in this round and never tried to be written: the view can not have it.
  bool is_born = false;
};

// By pointer: a change is near a kilobyte, and rounds are sorted.
using ChangePtr = std::unique_ptr<Change>;
using Changes = std::unordered_map<JobId, ChangePtr>;

struct Chunk {
  std::uint64_t number = 0;
  std::uint64_t records = 0;
  std::int64_t opened_ms = 0;
};

// `newer` over `older`; the payload of the submit stays until it is written.
void merge(Change& older, Change&& newer) {
  if (!newer.is_removed && !newer.row.has_payload && older.row.has_payload) {
    newer.row.job.spec.payload = std::move(older.row.job.spec.payload);
    newer.row.has_payload = true;
    newer.is_born = older.is_born;
  } else {
    newer.is_born = newer.is_born && older.is_born;
  }
  older = std::move(newer);
}

}  // namespace

struct Projector::State {
  ProjectorConfig config;
  std::uint64_t checkpoint = 0;
  std::uint64_t previous_checkpoint = 0;
  std::uint64_t added = 0;  // the last entry given
  std::uint64_t hurry = 0;
  std::uint64_t finished_not_kept = 0;
  std::int64_t born_after_ms = kNever;  // jobs made before may be in the view already

  // Gathered for the next round.
  Changes changes;
  std::map<std::string, QueueRecord> queues;
  std::map<std::string, std::string> nodes;
  std::vector<std::string> events;
  std::uint64_t next_sequence = 1;
  std::int64_t oldest_ms = kNever;

  // The round that is under way.
  bool is_open = false;
  bool is_out = false;
  std::vector<ChangePtr> round;
  std::size_t written = 0;  // rows of the round that are in the view
  std::size_t out_end = 0;  // those with the call that is out
  std::uint64_t round_target = 0;
  std::map<std::string, QueueRecord> round_queues;
  std::map<std::string, std::string> round_nodes;
  std::vector<std::string> round_events;
  std::unordered_set<std::string> round_ended_queues;
  std::uint64_t round_not_kept = 0;
  std::string round_not_kept_ended;  // their records for the ended memory
  std::int64_t round_started_ms = INT64_MIN / 2;
  std::int64_t interval_ms = 0;  // between the starts of two rounds
  std::int64_t round_oldest_ms = kNever;

  std::deque<Chunk> chunks;
  std::uint64_t chunk_next = 0;
  std::uint64_t chunk_records = 0;  // in all
  std::vector<std::uint64_t> drop;  // told with the next call, again until it is through
  std::size_t drop_out = 0;

  [[nodiscard]] bool has_gathered() const {
    return added > checkpoint || !changes.empty() || !nodes.empty() || !events.empty();
  }

  void gather(ViewRow&& row) {
    Change change{std::move(row), false, false};
    // A retried job comes with its payload too, but the view may have its life before.
    change.is_born = change.row.has_payload && change.row.job.life == 1 &&
                     change.row.job.created_ms >= born_after_ms;
    ChangePtr& place = changes[change.row.job.id()];
    if (place == nullptr)
      place = std::make_unique<Change>(std::move(change));
    else
      merge(*place, std::move(change));
  }

  void gather_removed(const JobId& id) {
    ChangePtr& change = changes[id];
    change = std::make_unique<Change>();
    change->row.job.spec.id = id;
    change->is_removed = true;
  }

  // A round that takes more than half of its interval makes the next one wait longer, so that more
  // changes of one job are one write and more ended jobs need none; a short one brings it back.
  void pace(std::int64_t took_ms) {
    if (2 * took_ms > interval_ms)
      interval_ms = std::min(2 * interval_ms, config.interval_max_ms);
    else if (8 * took_ms < interval_ms)
      interval_ms = std::max(interval_ms / 2, config.interval_ms);
  }

  void begin_round(Now now);
  void leave_out_surplus();
  void give_back();
  [[nodiscard]] ProjectRequest next_call(Now now);
  void add_last(ProjectRequest& request, Now now);
  void put_ended(ProjectRequest& request, std::string blob, Now now);
};

Projector::Projector(ProjectorConfig config,
                     std::uint64_t checkpoint,
                     std::uint64_t ended_chunk_first,
                     std::uint64_t ended_chunk_next)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.config = config;
  state.interval_ms = config.interval_ms;
  state.checkpoint = state.previous_checkpoint = state.added = checkpoint;
  state.chunk_next = ended_chunk_next;
  // Chunks of brokers before us: how full they are is not known, they go when they are old.
  for (std::uint64_t number = ended_chunk_first; number < ended_chunk_next; ++number)
    state.chunks.push_back({number, 0, kNever});
}

Projector::~Projector() = default;

// ---------------------------------------------------------------- in

void Projector::add(const LogEntryPtr& entry, Now now) {
  State& state = *state_;
  // What was made before our first entry may have been written by a round that was broken off.
  if (state.born_after_ms == kNever) state.born_after_ms = now.wall_ms;
  auto decoded = decode_entry(entry->blob);
  CHECK(decoded.has_value());  // we or a broker of our kind wrote it; open() has read it too
  for (ViewRow& row : decoded->jobs)
    state.gather(std::move(row));
  for (const JobId& id : decoded->removed)
    state.gather_removed(id);
  for (QueueRecord& queue : decoded->queues)
    state.queues[queue.name] = queue;
  state.next_sequence = std::max(state.next_sequence, decoded->next_sequence);
  state.added = entry->n;
  state.oldest_ms = std::min(state.oldest_ms, now.mono_ms);
}

void Projector::note_node(NodeText node) {
  state_->nodes[node.node] = std::move(node.json);
}

void Projector::note_event(std::string json) {
  if (state_->events.size() < kEventsHeldMax) state_->events.push_back(std::move(json));
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
  state.checkpoint = state.previous_checkpoint = state.added = checkpoint;
  state.oldest_ms = kNever;
  state.born_after_ms = kNever;
  for (const LogEntryPtr& entry : entries)
    add(entry, now);
  if (state.born_after_ms == kNever) state.born_after_ms = now.wall_ms;
}

// ---------------------------------------------------------------- a round

void Projector::State::begin_round(Now now) {
  is_open = true;
  round_started_ms = now.mono_ms;
  round_target = added;
  round.clear();
  round.reserve(changes.size());
  for (auto& [id, change] : changes)
    round.push_back(std::move(change));
  changes.clear();
  // By batch, and by id within one: the same calls in every run.
  std::sort(round.begin(), round.end(), [](const ChangePtr& a, const ChangePtr& b) {
    return std::pair(a->row.job.batch, a->row.job.id().view()) <
           std::pair(b->row.job.batch, b->row.job.id().view());
  });
  round_queues = std::exchange(queues, {});
  round_nodes = std::exchange(nodes, {});
  round_events = std::exchange(events, {});
  round_oldest_ms = std::exchange(oldest_ms, kNever);
  written = out_end = 0;
  leave_out_surplus();
}

// Jobs that ended in this round and would be removed by count at its end: those that the view
// cannot have are left out, completed ones that it may have are deleted there instead of being
// written first. (Failed and cancelled ones are written: only the view has the payload that a retry
// needs.)
void Projector::State::leave_out_surplus() {
  round_ended_queues.clear();  // what a failed round left out stays counted: round_not_kept
  std::map<std::pair<std::string, JobState>, std::uint64_t> surplus;
  for (const ChangePtr& change : round) {
    const Job& job = change->row.job;
    if (change->is_removed || !is_ended(job.state)) continue;
    round_ended_queues.insert(job.spec.queue);
    if (job.spec.keep_result_ms == 0) ++surplus[{job.spec.queue, job.state}];
  }
  for (auto& [key, count] : surplus)
    count = count > config.retention.keep_count ? count - config.retention.keep_count : 0;
  std::erase_if(round, [&](const ChangePtr& change) {
    const Job& job = change->row.job;
    if (change->is_removed || !is_ended(job.state) || job.spec.keep_result_ms != 0) return false;
    if (!change->is_born && job.state != JobState::completed) return false;
    std::uint64_t& left = surplus[{job.spec.queue, job.state}];
    if (left == 0) return false;
    --left;
    ++round_not_kept;
    append_ended(round_not_kept_ended, ended_record(job));
    change->is_removed = true;
    return change->is_born;
  });
}

// The round did not come through: what it had becomes part of the next one.
void Projector::State::give_back() {
  if (!is_open) return;
  is_open = is_out = false;
  for (ChangePtr& change : round) {
    change->is_born = false;
    ChangePtr& place = changes[change->row.job.id()];
    if (place != nullptr) merge(*change, std::move(*place));
    place = std::move(change);
  }
  round.clear();
  queues.merge(round_queues);  // what was gathered since is newer and stays
  nodes.merge(round_nodes);
  events.insert(events.begin(), round_events.begin(), round_events.end());
  oldest_ms = std::min(oldest_ms, round_oldest_ms);
}

ProjectRequest Projector::State::next_call(Now now) {
  ProjectRequest request;
  std::string ended;
  if (written == 0) {
    for (auto& [node, json] : round_nodes)
      request.nodes.push_back({node, json});
    request.events = round_events;
    ended = round_not_kept_ended;
  }
  for (out_end = written; out_end < round.size() && out_end - written < config.rows_per_call;
       ++out_end) {
    const Change& change = *round[out_end];
    if (change.is_removed) {
      request.removed.push_back(change.row.job.id());
      continue;
    }
    if (is_ended(change.row.job.state)) append_ended(ended, ended_record(change.row.job));
    request.rows.push_back(change.row);
  }
  put_ended(request, std::move(ended), now);
  if (out_end == round.size()) add_last(request, now);
  return request;
}

void Projector::State::add_last(ProjectRequest& request, Now now) {
  request.checkpoint = round_target;
  for (const auto& [name, queue] : round_queues)
    request.queues.push_back(queue);
  request.trim_queues.assign(round_ended_queues.begin(), round_ended_queues.end());
  std::sort(request.trim_queues.begin(), request.trim_queues.end());
  request.retention = config.retention;
  request.trim_before_batch = previous_checkpoint;
  request.wall_ms = now.wall_ms;
  request.next_sequence = next_sequence;
  request.finished_not_kept = round_not_kept;
  request.view_lag_ms = round_oldest_ms == kNever ? 0 : now.mono_ms - round_oldest_ms;
}

// Chunks are closed by count or age, and forgotten whole.
void Projector::State::put_ended(ProjectRequest& request, std::string blob, Now now) {
  for (Chunk& chunk : chunks)
    if (chunk.opened_ms == kNever) chunk.opened_ms = now.mono_ms;
  if (!blob.empty()) {
    const bool is_fresh = !chunks.empty() && chunks.back().records > 0 &&
                          chunks.back().records < kChunkRecordsMax &&
                          now.mono_ms - chunks.back().opened_ms < kChunkMs;
    if (!is_fresh) chunks.push_back({chunk_next++, 0, now.mono_ms});
    chunks.back().records += blob.size() / 32;
    chunk_records += blob.size() / 32;
    request.ended_chunk = chunks.back().number;
    request.ended_blob = std::move(blob);
  }
  while (chunks.size() > 1 && (chunk_records - chunks.front().records >= config.ended_max ||
                               now.mono_ms - chunks.front().opened_ms > kEndedKeepMs + kChunkMs)) {
    drop.push_back(chunks.front().number);
    chunk_records -= chunks.front().records;
    chunks.pop_front();
  }
  request.ended_drop = drop;
  drop_out = drop.size();
}

// ---------------------------------------------------------------- out

std::optional<ProjectRequest> Projector::next(Now now) {
  State& state = *state_;
  if (state.is_out) return std::nullopt;
  if (!state.is_open) {
    if (next_deadline_mono_ms(now) > now.mono_ms) return std::nullopt;
    state.begin_round(now);
  }
  state.is_out = true;
  return state.next_call(now);
}

void Projector::done(Now now) {
  State& state = *state_;
  if (!state.is_out) return;
  state.is_out = false;
  state.drop.erase(state.drop.begin(),
                   state.drop.begin() + static_cast<std::ptrdiff_t>(state.drop_out));
  state.drop_out = 0;
  const bool is_last = state.out_end == state.round.size();
  state.written = state.out_end;
  if (!is_last) return;
  state.is_open = false;
  state.pace(now.mono_ms - state.round_started_ms);
  state.previous_checkpoint = state.checkpoint;
  state.checkpoint = std::max(state.checkpoint, state.round_target);
  state.finished_not_kept += std::exchange(state.round_not_kept, 0);
  state.round_not_kept_ended.clear();
  state.round.clear();
  state.round_oldest_ms = kNever;
}

void Projector::failed() {
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
  if (state.is_out) return kNever;
  if (state.is_open) return now.mono_ms;
  if (!state.has_gathered()) return kNever;
  if (state.hurry > state.checkpoint) return now.mono_ms;
  return std::max(now.mono_ms, state.round_started_ms + state.interval_ms);
}

std::int64_t Projector::lag_ms(Now now) const {
  const std::int64_t oldest = std::min(state_->oldest_ms, state_->round_oldest_ms);
  return oldest == kNever ? 0 : now.mono_ms - oldest;
}

std::uint64_t Projector::finished_not_kept() const {
  return state_->finished_not_kept;
}

}  // namespace sluice
