#include "broker/core/core.h"

#include <algorithm>

#include "common/check.h"

namespace sluice {

namespace {

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

BrokerCore::BrokerCore(CoreConfig config, Snapshot snapshot, Now now)
    : config_(std::move(config)),
      epoch_(snapshot.epoch),
      queues_(jobs_),
      ended_(config_.ended_max),
      next_sequence_(snapshot.next_sequence),
      has_cold_jobs_(snapshot.has_cold_jobs) {
  for (const QueueRecord& record : snapshot.queues)
    queues_.entry(queues_.queue(record.name)).record = record;
  // In the order in which they were written, not by their times: a clock may have been set back,
  // and then a job's newer end has the older time.
  for (const EndedRecord& record : snapshot.ended)
    ended_.remember(record);
  for (const DeletedJob& deleted : snapshot.deleted)
    deleted_.emplace(deleted.id, deleted.batch);
  // In the order of their places, so that each goes to the end of its line.
  std::vector<Job*> in_order;
  in_order.reserve(snapshot.jobs.size());
  for (Job& job : snapshot.jobs)
    in_order.push_back(&job);
  std::sort(in_order.begin(), in_order.end(), [](const Job* a, const Job* b) {
    return a->sequence < b->sequence;
  });
  jobs_.reserve(in_order.size());
  for (Job* job : in_order)
    restore(std::move(*job), now);
  std::sort(awaiting_view_.begin(), awaiting_view_.end());
  if (running_count() > 0) grace_until_ms_ = after(core_ms(now), config_.grace_ms);
}

void BrokerCore::handle(Event&& event, Now now, Output& out) {
  if (!is_turn_open_) {
    jobs_.recycle();
    is_turn_open_ = true;
  }
  std::visit(Overloaded{
                 [&](RequestReceived& e) { on_request(e, nullptr, {}, now, out); },
                 [&](WorkerMessageReceived& e) { on_worker_message(e, now, out); },
                 [&](FetchedJobs& e) { on_fetched(e, now, out); },
                 [&](FetchedList& e) { on_fetched_list(e, now, out); },
                 [&](FetchedJobLog& e) { on_fetched_job_log(e, out); },
                 [&](FetchFailed& e) { on_fetch_failed(e.token, out); },
                 [&](Projected& e) { on_projected(e.checkpoint, now); },
                 [&](Retired& e) {
                   for (const EndedRecord& record : e.ended)
                     ended_.remember(record);
                 },
                 [&](StoreDown& e) {
                   store_down_reason_ = std::move(e.reason);
                   on_store_down(now);
                 },
                 [&](StoreUp&) { on_store_up(now); },
                 [&](StoreFull& e) { is_store_full_ = e.is_full; },
                 [&](DurabilityIs& e) { config_.durability = e.durability; },
                 [&](EpochTaken& e) {
                   epoch_ = e.epoch;
                   // Numbers count anew; what runs was sent under an older epoch.
                   newest_n_ = 0;
                   for (JobSlot slot = 0; slot < jobs_.slot_count(); ++slot)
                     jobs_.at(slot).run_n = 0;
                 },
                 [&](RewriteAll&) { begin_rewrite(); },
                 [&](Stopping&) { is_stopping_ = true; },
                 [&](Slept& e) {
                   gap_ms_ += e.gap_ms;
                   if (is_store_down_) down_since_ms_ += e.gap_ms;  // or StoreUp counts it again
                 },
             },
             event);
}

void BrokerCore::settle(Now now, Output& out) {
  if (!is_turn_open_) {
    jobs_.recycle();
    is_turn_open_ = true;
  }
  rewrite_some();
  if (!is_store_down_) {
    run_timers(now, out);
    purge_some(now, out);
    if (!is_stopping_) dispatch(now, out);
  }
  const std::size_t said = out.replies.size();
  waits_.settle(now.mono_ms, out);
  for (std::size_t i = said; i < out.replies.size(); ++i)
    tell_unfinished(out.replies[i]);
  for (const NodeIndex index : nodes_.touched()) {
    nodes_.at(index).is_touched = false;
    send_turn(index, out);
  }
  nodes_.touched().clear();
  drop_cold_jobs();
  if (ended_.trim(now.wall_ms)) has_cold_jobs_ = true;
  mark_rates(now);
  is_turn_open_ = false;
}

bool BrokerCore::has_writes() const {
  return !dirty_.empty() || !dirty_queues_.empty() || !removed_.empty() || !ended_again_.empty();
}

const BatchWrites& BrokerCore::take_writes(std::uint64_t n) {
  writes_.jobs.clear();
  writes_.queues.clear();
  for (const JobSlot slot : dirty_) {
    LiveJob& live = jobs_.at(slot);
    if (!live.is_used || !live.is_dirty) continue;
    live.is_dirty = false;
    live.job.batch = n;
    writes_.jobs.push_back({&live.job, live.needs_payload_write});
    live.needs_payload_write = false;
    if (is_ended(live.job.state)) awaiting_view_.emplace_back(n, slot);
  }
  dirty_.clear();
  is_slice_written_ = true;
  for (const QueueIndex index : dirty_queues_) {
    queues_.entry(index).is_dirty = false;
    writes_.queues.push_back(&queues_.entry(index).record);
  }
  dirty_queues_.clear();
  writes_.ended = std::exchange(ended_again_, {});
  writes_.removed = std::move(removed_);
  removed_.clear();
  for (const RemovedJob& removed : writes_.removed)
    deleted_[removed.id] = n;
  writes_.next_sequence = next_sequence_;
  return writes_;
}

std::int64_t BrokerCore::next_deadline_mono_ms(Now now) const {
  if (may_rewrite() || (is_purging() && !is_store_down_)) return now.mono_ms;
  std::int64_t next = waits_.next_deadline_ms();
  const auto at_core_ms = [&](std::int64_t core_time_ms) {
    if (core_time_ms != kNever) next = std::min(next, core_time_ms + gap_ms_);
  };
  if (is_store_down_) return next;
  at_core_ms(run_deadlines_.next_ms());
  at_core_ms(next_silence_ms_);
  at_core_ms(grace_until_ms_);
  if (wall_deadlines_.next_ms() != kNever)
    next =
        std::min(next,
                 now.mono_ms + std::max<std::int64_t>(0, wall_deadlines_.next_ms() - now.wall_ms));
  return next;
}

std::uint64_t BrokerCore::running_count() const {
  std::uint64_t running = 0;
  for (QueueIndex index = 0; index < queues_.queue_count(); ++index)
    running += queues_.entry(index).running;
  return running;
}

void BrokerCore::on_store_down(Now now) {
  if (is_store_down_) return;
  is_store_down_ = true;
  down_since_ms_ = now.mono_ms;
}

void BrokerCore::on_store_up(Now now) {
  if (!is_store_down_) return;
  is_store_down_ = false;
  gap_ms_ += now.mono_ms - down_since_ms_;
  // One fresh status from every node before its silence or its time-outs count: they could not be
  // heard.
  // And all their results: those of the meantime were not taken, and their slots are not free.
  for (const NodeIndex index : nodes_.used()) {
    Node& node = nodes_.at(index);
    node.last_seen_ms = core_ms(now);
    node.wants_welcome = node.wants_repeat = true;
    nodes_.touch(index);
  }
  gap_ms_ += config_.heartbeat_ms;
  next_silence_ms_ = core_ms(now);
}

}  // namespace sluice
