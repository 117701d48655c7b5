// What nodes report, and what the broker answers. One message, `status`, covers first contact,
// heartbeat, lost messages, reconnects and broker restarts: the broker compares what the node holds
// with what it believes, and corrects.
#include <algorithm>

#include "broker/core/core.h"
#include "common/mutant.h"
#include "common/protocol/codec.h"

namespace sluice {

namespace {

// What one `run` may hold, with room for its envelope.
constexpr std::size_t kRunBytesMax = kMessageBytesMax - 4096;

// No broker ever had a higher one: beyond the year 100 000 in ms, and exact in a double.
constexpr std::uint64_t kEpochMax = std::uint64_t{1} << 52;

// The mistake of Mutant::acks_unrecorded: the worker may forget what nobody has taken.
void ack_unrecorded(Node& node, const WorkerMessage& message) {
  if (const auto* results = std::get_if<Results>(&message))
    for (const AttemptResult& result : results->results)
      node.acks.push_back({result.id, result.fence, false, 0});
}

}  // namespace

void BrokerCore::on_worker_message(WorkerMessageReceived& event, Now now, Output& out) {
  if (auto* status = std::get_if<Status>(&event.message))
    return on_status(event.peer, *status, now, out);
  // Everything else is from a node that has introduced itself; it repeats what is not answered.
  const std::string& name =
      std::visit([](const auto& message) -> const std::string& { return message.node; },
                 event.message);
  const auto index = nodes_.find(name);
  if (!index) return;
  Node& node = nodes_.at(*index);
  node.peer = event.peer;
  node.last_seen_ms = core_ms(now);
  if (auto* log = std::get_if<Log>(&event.message)) return on_log(node, *log, now, out);
  if (is_store_down_) {
    if (MUTANT(acks_unrecorded)) {
      ack_unrecorded(node, event.message);
      nodes_.touch(*index);
    }
    return;
  }
  if (auto* results = std::get_if<Results>(&event.message)) {
    for (AttemptResult& result : results->results)
      on_result(*index, result, now, out);
  } else if (auto* progress = std::get_if<Progress>(&event.message)) {
    on_progress(*index, *progress, out);
  } else {
    on_goodbye(*index, now, out);
  }
}

void BrokerCore::on_status(const Peer& peer, Status& status, Now now, Output& out) {
  if (!status.replaces.empty() && status.replaces != status.node)
    if (const auto before = nodes_.find(status.replaces); before && !is_store_down_)
      remove_node(*before, NodeFactKind::left, now, out);
  auto found = nodes_.find(status.node);
  const bool is_new = !found;
  if (is_new) {
    found = nodes_.add(status.node);
    out.facts.push_back(NodeFact{NodeFactKind::joined, status.node, {}});
  }
  const NodeIndex index = *found;
  Node& node = nodes_.at(index);
  node.last_seen_ms = core_ms(now);
  next_silence_ms_ = std::min(next_silence_ms_, after(node.last_seen_ms, config_.dead_after_ms));
  if (!is_new && status.seq <= node.status_seq) return;  // an older one, out of order or twice
  node.status_seq = status.seq;
  node.peer = peer;
  if (status.seen.epoch > epoch_ && status.seen.epoch <= kEpochMax)
    out.newer_epoch = std::max(out.newer_epoch, status.seen.epoch);
  if (status.draining && !node.is_draining)
    out.facts.push_back(NodeFact{NodeFactKind::draining, node.id, {}});
  update_node(node, status);
  out.facts.push_back(NodeSeen{node.id});
  node.wants_welcome = true;
  nodes_.touch(index);
  if (!is_store_down_) reconcile(index, status, now, out);
}

void BrokerCore::update_node(Node& node, Status& status) {
  const bool is_changed = node.tasks != status.tasks || node.queues != status.queues;
  node.concurrency = status.concurrency;
  node.is_draining = status.draining;
  node.labels = std::move(status.labels);
  node.version = std::move(status.version);
  if (!MUTANT(keeps_old_figures) || node.status_seq == 1)
    node.isolates = std::move(status.isolates);
  if (!is_changed) return;
  node.tasks = std::move(status.tasks);
  node.queues = std::move(status.queues);
  if (!MUTANT(keeps_old_offer)) nodes_.changed();
}

void BrokerCore::reconcile(NodeIndex index, const Status& status, Now now, Output& out) {
  Node& node = nodes_.at(index);
  const std::uint64_t mark = ++reconcile_mark_;
  node.strays = 0;
  for (const HeldAttempt& held : status.held) {
    const auto slot = jobs_.find(held.id);
    const bool is_ours = slot && is_current(jobs_.at(*slot), node.id, held.fence);
    if (!is_ours) {
      node.drops.push_back({held.id, held.fence});
      ++counters_.dropped_attempts;
      if (held.phase != Phase::finished) ++node.strays;
      continue;
    }
    LiveJob& live = jobs_.at(*slot);
    if (live.job.state != JobState::running) {
      claim(*slot, index, now);
    } else if (live.node == kNoNode) {  // it ran before this broker started
      live.node = index;
      live.node_index = static_cast<std::uint32_t>(node.attempts.size());
      node.attempts.push_back(*slot);
    }
    live.mark = mark;
    if (live.job.cancel_requested_ms > 0 && held.phase != Phase::finished)
      node.cancels.push_back({held.id, held.fence});
  }
  adopt_unclaimed(index, status);
  // Believed on this node, absent, and not still on its way: its `run` never arrived. Again.
  const std::vector<JobSlot> attempts = node.attempts;
  for (const JobSlot slot : attempts) {
    LiveJob& live = jobs_.at(slot);
    if (live.mark == mark || live.run_n == UINT64_MAX) continue;
    const bool is_covered =
        status.seen.epoch > epoch_ || (status.seen.epoch == epoch_ && status.seen.n >= live.run_n);
    if (!is_covered) continue;
    if (live.job.cancel_requested_ms > 0) {
      record_attempt(live.job, AttemptEnd::cancelled, nullptr, now);
      end_job(slot, JobState::cancelled, now, out);
      continue;
    }
    if (live.job.is_payload_lost) {
      record_attempt(live.job, AttemptEnd::lost, nullptr, now);
      fail_without_payload(slot, now, out);
      continue;
    }
    live.run_n = UINT64_MAX;
    node.runs.push_back(slot);
    ++counters_.resent_runs;
  }
}

// Jobs that the store shows as running on this very node, from before this broker's start, and that
// it does not hold: they belong to it now, so that the rule for absent attempts finds them.
void BrokerCore::adopt_unclaimed(NodeIndex index, const Status& status) {
  if (grace_until_ms_ == kNever || status.seen.epoch != epoch_) return;
  Node& node = nodes_.at(index);
  for (const JobSlot slot : unclaimed_of(node.id)) {
    LiveJob& live = jobs_.at(slot);
    live.node = index;
    live.node_index = static_cast<std::uint32_t>(node.attempts.size());
    node.attempts.push_back(slot);
  }
}

// The jobs of unclaimed_ that run on this node; whoever has been claimed or has ended leaves the
// list.
std::vector<JobSlot> BrokerCore::unclaimed_of(const std::string& node) {
  std::erase_if(unclaimed_, [&](JobSlot slot) {
    const LiveJob& live = jobs_.at(slot);
    return !live.is_used || live.job.state != JobState::running || live.node != kNoNode;
  });
  std::vector<JobSlot> slots;
  for (const JobSlot slot : unclaimed_)
    if (jobs_.at(slot).job.node == node) slots.push_back(slot);
  return slots;
}

void BrokerCore::on_result(NodeIndex index, AttemptResult& result, Now now, Output& out) {
  Node& node = nodes_.at(index);
  nodes_.touch(index);
  const auto slot = jobs_.find(result.id);
  const bool is_ours = slot && is_current(jobs_.at(*slot), node.id, result.fence);
  node.acks.push_back({result.id, result.fence, !is_ours, 0});
  if (!is_ours) {
    ++counters_.stale_results;
    if (MUTANT(overwrites_result) && slot && jobs_.at(*slot).job.fence() == result.fence &&
        jobs_.at(*slot).job.state == JobState::completed) {
      jobs_.at(*slot).job.result.clear();
      mark_dirty(*slot);
    }
    return;
  }
  LiveJob& live = jobs_.at(*slot);
  if (live.job.state != JobState::running) {
    claim(*slot, index, now);
    ++counters_.late_results;
  } else if (live.node == kNoNode) {
    live.node = index;
    live.node_index = static_cast<std::uint32_t>(node.attempts.size());
    node.attempts.push_back(*slot);
  }
  if (result.outcome == Outcome::completed) ++node.completed;
  if (result.outcome == Outcome::failed) ++node.failed;
  finish_attempt(*slot, result, now, out);
}

void BrokerCore::on_progress(NodeIndex index, Progress& progress, Output& out) {
  Node& node = nodes_.at(index);
  const auto slot = jobs_.find(progress.id);
  const bool is_ours = slot && is_current(jobs_.at(*slot), node.id, progress.fence) &&
                       jobs_.at(*slot).job.state == JobState::running;
  if (is_ours) {
    Job& job = jobs_.at(*slot).job;
    job.progress_percent = progress.percent;
    job.progress_message = std::move(progress.message);
    if (progress.checkpoint) job.checkpoint = std::move(*progress.checkpoint);
    mark_dirty(*slot);
    fact(JobFactKind::progress, job, out);
  }
  if (progress.checkpoint_n == 0) return;
  node.acks.push_back({progress.id, progress.fence, !is_ours, progress.checkpoint_n});
  nodes_.touch(index);
}

// Kept as well as may be: it must not stand in the way of anything that has to be kept.
void BrokerCore::on_log(const Node& node, Log& log, Now now, Output& out) {
  const auto slot = jobs_.find(log.id);
  const bool is_ours = slot && is_current(jobs_.at(*slot), node.id, log.fence) &&
                       jobs_.at(*slot).job.state == JobState::running;
  if (!is_ours) return;
  if (is_store_down_ || is_store_full_ || is_memory_full()) {
    ++counters_.log_chunks_dropped;
    return;
  }
  out.logs.push_back(
      {std::move(log.id), {0, log.fence.attempt, now.wall_ms, std::move(log.bytes)}});
}

// It leaves and holds nothing: what we believe on it never arrived there, and goes back unspent.
void BrokerCore::on_goodbye(NodeIndex index, Now now, Output& out) {
  Node& node = nodes_.at(index);
  const std::vector<JobSlot> attempts = node.attempts;
  for (const JobSlot slot : attempts) {
    record_attempt(jobs_.at(slot).job, AttemptEnd::handed_back, nullptr, now);
    hand_back(slot, now, out);
  }
  remove_node(index, NodeFactKind::left, now, out);
}

void BrokerCore::remove_node(NodeIndex index, NodeFactKind why, Now now, Output& out) {
  Node& node = nodes_.at(index);
  const std::vector<JobSlot> attempts = node.attempts;
  for (const JobSlot slot : attempts)
    lose(slot, now, out);
  // Running on it by the store's word, and not claimed since our start.
  for (const JobSlot slot : unclaimed_of(node.id))
    lose(slot, now, out);
  out.facts.push_back(NodeFact{why, node.id, {}});
  nodes_.remove(index);
}

// ---------------------------------------------------------------- what a turn owes a node

void BrokerCore::send_turn(NodeIndex index, Output& out) {
  Node& node = nodes_.at(index);
  const auto send = [&](BrokerBody body) {
    out.sends.push_back({node.peer, BrokerMessage{{epoch_, ++newest_n_}, std::move(body)}});
  };
  if (node.wants_welcome)
    send(Welcome{.heartbeat_ms = config_.heartbeat_ms,
                 .dead_after_ms = config_.dead_after_ms,
                 .repeat = node.wants_repeat});
  node.wants_welcome = node.wants_repeat = false;
  if (!node.acks.empty()) send(Ack{std::exchange(node.acks, {})});
  if (!node.drops.empty()) send(DropAttempts{std::exchange(node.drops, {})});
  for (BrokerBody& wish : node.wishes)
    send(std::move(wish));
  node.wishes.clear();
  send_runs(node, out);
  // After the runs: an attempt may be cancelled in the turn that sends it.
  if (!node.cancels.empty()) send(CancelAttempts{std::exchange(node.cancels, {})});
}

void BrokerCore::send_runs(Node& node, Output& out) {
  RunSend run;
  std::size_t bytes = 0;
  const auto flush = [&] {
    if (run.jobs.empty()) return;
    out.sends.push_back({node.peer, std::exchange(run, {})});
    bytes = 0;
  };
  for (const JobSlot slot : node.runs) {
    LiveJob& live = jobs_.at(slot);
    const std::size_t job_bytes = run_bytes_bound(live.job);
    if (bytes + job_bytes > kRunBytesMax || run.jobs.size() >= kJobsPerSubmitMax) flush();
    if (run.jobs.empty()) run.number = {epoch_, ++newest_n_};
    live.run_n = run.number.n;
    run.jobs.push_back(&live.job);
    bytes += job_bytes;
  }
  flush();
  node.runs.clear();
}

}  // namespace sluice
