// The end of a turn: timers, then dispatch.
#include <algorithm>
#include <utility>

#include "broker/core/core.h"

namespace sluice {

namespace {

constexpr JobSlot kSlotsPerSlice = 20'000;     // looked at by one slice of a purge or rewrite
constexpr std::size_t kJobsPerSlice = 1'000;   // changed by one slice
constexpr std::size_t kSliceBytes = 8u << 20;  // of payloads; Redis takes no entry above 512 MiB
constexpr std::int64_t kRateSpanMs = 10'000;
constexpr std::int64_t kRateMarkMs = 1'000;

}  // namespace

void BrokerCore::run_timers(Now now, Output& out) {
  check_silence(now, out);
  if (core_ms(now) >= grace_until_ms_) end_grace(now, out);
  while (run_deadlines_.next_ms() <= core_ms(now))
    time_out(run_deadlines_.next_slot(), now, out);
  run_wall_timers(now, out);
}

void BrokerCore::run_wall_timers(Now now, Output& out) {
  while (wall_deadlines_.next_ms() <= now.wall_ms) {
    const JobSlot slot = wall_deadlines_.next_slot();
    LiveJob& live = jobs_.at(slot);
    const std::int64_t expires_ms = live.job.spec.expires_at_ms;
    if (expires_ms > 0 && expires_ms <= now.wall_ms) {
      ++totals(live).expired;
      fail_job(slot,
               "expired",
               live.job.attempts.empty() ? "it was not started before its expires_at"
                                         : "it was not started again before its expires_at",
               now,
               out);
    } else {
      make_ready(slot, out);
    }
  }
}

void BrokerCore::check_silence(Now now, Output& out) {
  if (core_ms(now) < next_silence_ms_) return;
  next_silence_ms_ = kNever;
  const std::vector<NodeIndex> used = nodes_.used();
  for (const NodeIndex index : used) {
    const std::int64_t dead_ms = after(nodes_.at(index).last_seen_ms, config_.dead_after_ms);
    if (dead_ms > core_ms(now)) {
      next_silence_ms_ = std::min(next_silence_ms_, dead_ms);
      continue;
    }
    ++counters_.nodes_dead;
    remove_node(index, NodeFactKind::dead, now, out);
  }
}

// Running jobs from before our start whose node has not come back: it is dead.
void BrokerCore::end_grace(Now now, Output& out) {
  grace_until_ms_ = kNever;
  for (const JobSlot slot : std::exchange(unclaimed_, {})) {
    const LiveJob& live = jobs_.at(slot);
    if (live.is_used && live.job.state == JobState::running && live.node == kNoNode)
      lose(slot, now, out);
  }
}

// Cancels what waits in a queue, a slice a turn, so that dispatch goes on.
void BrokerCore::purge_some(Now now, Output& out) {
  if (purges_.empty()) return;
  PurgeOp& purge = purges_.front();
  const JobSlot end = std::min(jobs_.slot_count(), purge.next + kSlotsPerSlice);
  std::size_t cancelled = 0;
  for (; purge.next < end && cancelled < kJobsPerSlice; ++purge.next) {
    LiveJob& live = jobs_.at(purge.next);
    const Job& job = live.job;
    const bool waits =
        live.is_used && (job.state == JobState::pending || job.state == JobState::queued);
    if (!waits || job.spec.queue != purge.queue || job.created_ms > purge.started_ms) continue;
    live.job.cancel_requested_ms = now.wall_ms;
    live.job.cancel_reason = "purged";
    end_job(purge.next, JobState::cancelled, now, out);
    ++cancelled;
  }
  purge.count += cancelled;
  if (purge.next < jobs_.slot_count()) return;
  out.facts.push_back(OperatorFact{OperatorFact::Kind::queue_purged, purge.queue, purge.count});
  reply(purge.peer, purge.req, Done{"purged", purge.count}, out);
  purges_.pop_front();
}

// After a loss in the store that could not be replayed: everything is written again, whole.
void BrokerCore::rewrite_some() {
  if (!may_rewrite()) return;
  is_slice_written_ = false;
  const JobSlot end = std::min<JobSlot>(rewrite_end_, rewrite_next_ + kJobsPerSlice);
  std::size_t bytes = 0;
  for (; rewrite_next_ < end && bytes < kSliceBytes; ++rewrite_next_) {
    LiveJob& live = jobs_.at(rewrite_next_);
    if (!live.is_used) continue;
    bytes += live.job.spec.payload.size() + live.job.result.size() + live.job.checkpoint.size();
    live.needs_payload_write = !live.job.is_payload_lost;
    mark_dirty(rewrite_next_);
  }
  if (rewrite_next_ == rewrite_end_) rewrite_next_ = rewrite_end_ = 0;
  for (std::size_t i = 0; i < kJobsPerSlice && !rewrite_ended_.empty(); ++i) {
    ended_again_.push_back(rewrite_ended_.front());
    rewrite_ended_.pop_front();
  }
  is_slice_written_ = !has_writes();  // of free slots only: nothing to wait for
}

// A start finds queued jobs by the queues that it knows: these are in the first batch.
void BrokerCore::begin_rewrite() {
  rewrite_next_ = 0;
  rewrite_end_ = jobs_.slot_count();
  rewrite_ended_ = ended_.records();
  for (QueueIndex index = 0; index < queues_.queue_count(); ++index)
    mark_queue_dirty(index);
}

// ---------------------------------------------------------------- dispatch

// Deals ready jobs to free slots: over all lines the highest priority first, the oldest first
// inside it; each to the least loaded node that offers its task and takes its queue. A line that no
// free node fits is out for this turn and holds up nobody.
void BrokerCore::dispatch(Now now, Output& out) {
  std::uint64_t free = 0;
  for (const NodeIndex index : nodes_.used())
    free += nodes_.at(index).free();
  auto place = queues_.ready_lines().begin();
  while (free > 0) {
    place = queues_.settle(place);
    if (place == queues_.ready_lines().end()) return;
    const LineIndex line = place->line;
    const NodeIndex node = queues_.is_paused(line) ? kNoNode : pick_node(line);
    if (node == kNoNode) {
      ++place;
      continue;
    }
    const JobSlot slot = place->head.slot;
    queues_.pop(line);
    if (jobs_.at(slot).job.is_payload_lost) {
      fail_without_payload(slot, now, out);
      continue;
    }
    dispatch_to(slot, node, now, out);
    --free;
  }
}

// The least loaded node (busy / concurrency) among those that fit and have a free slot.
NodeIndex BrokerCore::pick_node(LineIndex line) {
  if (fitting_.size() <= line) fitting_.resize(line + 1);
  Fitting& fitting = fitting_[line];
  if (fitting.version != nodes_.version()) {
    fitting.version = nodes_.version();
    fitting.nodes.clear();
    for (const NodeIndex index : nodes_.used())
      if (nodes_.at(index).offers(queues_.task_of(line), queues_.queue_name_of(line)))
        fitting.nodes.push_back(index);
  }
  NodeIndex best = kNoNode;
  for (const NodeIndex index : fitting.nodes) {
    const Node& node = nodes_.at(index);
    if (node.free() == 0) continue;
    if (best == kNoNode) {
      best = index;
      continue;
    }
    const Node& other = nodes_.at(best);
    const std::uint64_t mine = std::uint64_t{node.busy()} * other.concurrency;
    const std::uint64_t theirs = std::uint64_t{other.busy()} * node.concurrency;
    if (mine < theirs || (mine == theirs && node.free() > other.free())) best = index;
  }
  return best;
}

void BrokerCore::mark_rates(Now now) {
  if (now.mono_ms < next_rate_mark_ms_) return;
  next_rate_mark_ms_ = now.mono_ms + kRateMarkMs;
  for (QueueIndex index = 0; index < queues_.queue_count(); ++index) {
    QueueEntry& queue = queues_.entry(index);
    queue.completed_marks.emplace_back(now.mono_ms, queue.record.totals.completed);
    while (queue.completed_marks.front().first < now.mono_ms - kRateSpanMs)
      queue.completed_marks.pop_front();
  }
}

}  // namespace sluice
