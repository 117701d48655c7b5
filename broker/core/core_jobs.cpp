// The life of a job: every change of state passes through move(), every end through end_job().
#include <algorithm>
#include <utility>

#include "broker/core/core.h"
#include "common/check.h"
#include "common/mutant.h"
#include "common/utf8.h"

namespace sluice {

namespace {

constexpr std::size_t kAttemptTextBytesMax = 256;
// A job handed back this often within a minute rests until the minute is over, instead of going
// round.
constexpr std::size_t kHandBacksPerMinute = 3;
constexpr std::int64_t kMinuteMs = 60'000;

std::int64_t expiry_ms(const Job& job) {
  return job.spec.expires_at_ms > 0 ? job.spec.expires_at_ms : kNever;
}

// Until when it rests, having been handed back now; 0 = not at all.
std::int64_t rest_until_ms(const Job& job, Now now) {
  std::size_t count = 0;
  for (auto record = job.attempts.rbegin(); record != job.attempts.rend(); ++record) {
    if (record->end != AttemptEnd::handed_back || ++count < kHandBacksPerMinute) continue;
    const std::int64_t until_ms = after(record->ended_ms, kMinuteMs);
    // No longer than a minute, whatever the clock did since.
    return until_ms > now.wall_ms ? std::min(until_ms, after(now.wall_ms, kMinuteMs)) : 0;
  }
  return 0;
}

std::uint64_t& count_of(QueueEntry& queue, JobState state) {
  switch (state) {
    case JobState::pending:
      return queue.pending;
    case JobState::queued:
      return queue.queued;
    default:
      return queue.running;
  }
}

}  // namespace

JobSlot BrokerCore::add_job(JobSpec&& spec, Now now, Output& out) {
  Job job;
  job.spec = std::move(spec);
  job.created_ms = now.wall_ms;
  job.revision = 1;
  job.due_ms = job.spec.run_at_ms > 0 ? job.spec.run_at_ms : after(now.wall_ms, job.spec.delay_ms);
  const bool is_due = job.due_ms <= now.wall_ms;
  if (is_due) job.due_ms = now.wall_ms;
  job.state = JobState::pending;
  const JobSlot slot = jobs_.insert(std::move(job));
  LiveJob& live = jobs_.at(slot);
  live.line = queues_.line(live.job.spec.queue, live.job.spec.task);
  live.needs_payload_write = true;
  ++queues_.queue_of(live.line).pending;
  ++totals(live).submitted;
  ++counters_.accepted;
  mark_dirty(slot);
  if (is_due) {
    make_ready(slot, out);
    live.job.revision = 1;  // born queued: no move
  } else {
    wall_deadlines_.set(slot, std::min(live.job.due_ms, expiry_ms(live.job)));
  }
  return slot;
}

// Puts a job from the store back into memory, in the state that it has.
void BrokerCore::restore(Job&& job, Now now) {
  const JobSlot slot = jobs_.insert(std::move(job));
  LiveJob& live = jobs_.at(slot);
  live.line = queues_.line(live.job.spec.queue, live.job.spec.task);
  if (is_ended(live.job.state)) {
    awaiting_view_.emplace_back(live.job.batch, slot);
    return;
  }
  ++count_of(queues_.queue_of(live.line), live.job.state);
  if (live.job.state == JobState::pending)
    wall_deadlines_.set(slot, std::min(live.job.due_ms, expiry_ms(live.job)));
  if (live.job.state == JobState::queued) {
    wall_deadlines_.set(slot, expiry_ms(live.job));
    queues_.enter(slot);
  }
  if (live.job.state != JobState::running) return;
  unclaimed_.push_back(slot);
  if (live.job.spec.timeout_ms > 0)
    run_deadlines_.set(
        slot,
        after(core_ms(now), live.job.spec.timeout_ms + config_.grace_ms + kTimeoutBackstopMs));
}

void BrokerCore::move(JobSlot slot, JobState to) {
  LiveJob& live = jobs_.at(slot);
  CHECK(is_legal_move(live.job.state, to));
  QueueEntry& queue = queues_.queue_of(live.line);
  if (!is_ended(live.job.state)) --count_of(queue, live.job.state);
  if (!is_ended(to)) ++count_of(queue, to);
  live.job.state = to;
  if (!MUTANT(revision_not_raised)) ++live.job.revision;
  mark_dirty(slot);
}

void BrokerCore::mark_dirty(JobSlot slot) {
  LiveJob& live = jobs_.at(slot);
  if (live.is_dirty) return;
  live.is_dirty = true;
  dirty_.push_back(slot);
}

void BrokerCore::mark_queue_dirty(QueueIndex index) {
  if (!std::exchange(queues_.entry(index).is_dirty, true)) dirty_queues_.push_back(index);
}

QueueTotals& BrokerCore::totals(LiveJob& live) {
  const QueueIndex index = queues_.queue_index_of(live.line);
  mark_queue_dirty(index);
  return queues_.entry(index).record.totals;
}

// pending -> queued: its time has come, and it gets its place in the line.
void BrokerCore::make_ready(JobSlot slot, Output& out) {
  LiveJob& live = jobs_.at(slot);
  move(slot, JobState::queued);
  live.job.sequence = next_sequence_++;
  wall_deadlines_.set(slot, expiry_ms(live.job));
  queues_.enter(slot);
  fact(JobFactKind::queued, live.job, out);
}

// running -> queued under the old sequence: first in line again.
void BrokerCore::requeue(JobSlot slot, Output& out) {
  LiveJob& live = jobs_.at(slot);
  move(slot, JobState::queued);
  wall_deadlines_.set(slot, expiry_ms(live.job));
  queues_.enter(slot);
  fact(JobFactKind::requeued, live.job, out);
}

void BrokerCore::dispatch_to(JobSlot slot, NodeIndex index, Now now, Output& out) {
  LiveJob& live = jobs_.at(slot);
  Node& node = nodes_.at(index);
  move(slot, JobState::running);
  ++live.job.attempt;
  live.job.epoch = epoch_;
  live.job.node = node.id;
  live.job.started_ms = now.wall_ms;
  live.job.progress_percent = 0;
  live.job.progress_message.clear();
  live.run_n = UINT64_MAX;  // until its `run` has its number
  live.node = index;
  live.node_index = static_cast<std::uint32_t>(node.attempts.size());
  node.attempts.push_back(slot);
  node.runs.push_back(slot);
  nodes_.touch(index);
  wall_deadlines_.remove(slot);
  if (live.job.spec.timeout_ms > 0)
    run_deadlines_.set(slot, after(core_ms(now), live.job.spec.timeout_ms + kTimeoutBackstopMs));
  ++counters_.dispatched;
  fact(JobFactKind::started, live.job, out);
}

// The job is no longer on its node: its slot is free.
void BrokerCore::detach(JobSlot slot) {
  LiveJob& live = jobs_.at(slot);
  run_deadlines_.remove(slot);
  if (live.node == kNoNode) return;
  Node& node = nodes_.at(live.node);
  const JobSlot last = node.attempts.back();
  node.attempts[live.node_index] = last;
  jobs_.at(last).node_index = live.node_index;
  node.attempts.pop_back();
  std::erase(node.runs, slot);
  live.node = kNoNode;
}

void BrokerCore::end_job(JobSlot slot, JobState state, Now now, Output& out) {
  detach(slot);
  LiveJob& live = jobs_.at(slot);
  move(slot, state);
  wall_deadlines_.remove(slot);
  Job& job = live.job;
  job.finished_ms = now.wall_ms;
  if (state == JobState::completed && !job.spec.keep_payload) {
    free_memory(job.spec.payload);
    live.needs_payload_write = false;
  }
  if (state == JobState::completed) {
    job.error_code.clear();
    job.error.clear();
    ++totals(live).completed;
    fact(JobFactKind::completed, job, out);
  } else if (state == JobState::failed) {
    ++totals(live).failed;
    fact(JobFactKind::failed, job, out);
  } else {
    ++totals(live).cancelled;
    fact(JobFactKind::cancelled, job, out);
  }
  jobs_.account(slot);
  if (live.has_waiters) {
    live.has_waiters = false;
    waits_.ended(
        JobView{.id = job.id(), .job = job, .state = state, .finished_ms = job.finished_ms});
  }
}

void BrokerCore::fail_job(JobSlot slot, std::string code, std::string text, Now now, Output& out) {
  Job& job = jobs_.at(slot).job;
  job.error_code = std::move(code);
  job.error = std::move(text);
  end_job(slot, JobState::failed, now, out);
}

// It would run with other data than was sent.
void BrokerCore::fail_without_payload(JobSlot slot, Now now, Output& out) {
  fail_job(slot, "payload_lost", "Redis lost the job's payload: submit it again", now, out);
}

void BrokerCore::record_attempt(Job& job, AttemptEnd end, const AttemptResult* result, Now now) {
  AttemptRecord record;
  record.attempt = job.attempt;
  record.node = job.node;
  record.started_ms = job.started_ms;
  record.ended_ms = now.wall_ms;
  record.end = end;
  if (result != nullptr) {
    record.error_code = result->error_code;
    record.error = result->error;
    record.error.resize(utf8_head(record.error, kAttemptTextBytesMax).size());
    record.cpu_ms = result->usage.cpu_ms;
    record.rss_bytes_max = result->usage.rss_bytes_max;
  }
  if (job.attempts.size() == kAttemptsKept) job.attempts.erase(job.attempts.begin());
  job.attempts.push_back(std::move(record));
}

// A lost attempt stays current until the next dispatch: its node may come back with it. But not
// into a new life: a person's retry has set lost_count to 0.
bool BrokerCore::is_claimable(const Job& job) {
  return job.state == JobState::queued && job.lost_count > 0 && !job.attempts.empty() &&
         job.attempts.back().attempt == job.attempt && job.attempts.back().end == AttemptEnd::lost;
}

bool BrokerCore::is_current(const LiveJob& live, const std::string& node, Fence fence) const {
  if (!MUTANT(ignores_fence) && live.job.fence() != fence) return false;
  if (live.job.node != node) return false;
  return live.job.state == JobState::running || is_claimable(live.job);
}

// The node of a lost attempt is back with it: queued -> running, same fence, the loss taken back.
void BrokerCore::claim(JobSlot slot, NodeIndex index, Now now) {
  LiveJob& live = jobs_.at(slot);
  move(slot, JobState::running);
  wall_deadlines_.remove(slot);
  live.job.attempts.pop_back();
  --live.job.lost_count;
  Node& node = nodes_.at(index);
  live.node = index;
  live.node_index = static_cast<std::uint32_t>(node.attempts.size());
  live.run_n = 0;
  node.attempts.push_back(slot);
  if (live.job.spec.timeout_ms > 0)
    run_deadlines_.set(slot, after(core_ms(now), live.job.spec.timeout_ms + kTimeoutBackstopMs));
  ++counters_.claimed;
}

// What a node reports of a current attempt; the job is running.
void BrokerCore::finish_attempt(JobSlot slot, AttemptResult& result, Now now, Output& out) {
  LiveJob& live = jobs_.at(slot);
  Job& job = live.job;
  const bool is_cancelling = job.cancel_requested_ms > 0 && !MUTANT(forgets_cancel);
  switch (result.outcome) {
    case Outcome::completed:
      record_attempt(job, AttemptEnd::completed, &result, now);
      if (is_cancelling) {
        ++counters_.cancel_lost;
        return end_job(slot, JobState::cancelled, now, out);
      }
      job.result = std::move(result.result);
      job.progress_percent = kPercentMax;
      return end_job(slot, JobState::completed, now, out);
    case Outcome::failed:
      record_attempt(job, AttemptEnd::failed, &result, now);
      return fail_attempt(slot, result, now, out);
    case Outcome::cancelled:
      record_attempt(job, AttemptEnd::cancelled, &result, now);
      if (is_cancelling) return end_job(slot, JobState::cancelled, now, out);
      result.error_code = "cancelled_by_worker";
      result.error = "the worker cancelled the attempt although nobody had asked for it";
      result.retryable = true;
      return fail_attempt(slot, result, now, out);
    case Outcome::handed_back:
      record_attempt(job, AttemptEnd::handed_back, &result, now);
      return hand_back(slot, now, out);
  }
}

// An attempt failed (its record is written): try again later, or that was it.
void BrokerCore::fail_attempt(JobSlot slot, AttemptResult& result, Now now, Output& out) {
  LiveJob& live = jobs_.at(slot);
  Job& job = live.job;
  job.error_code = std::move(result.error_code);
  job.error = std::move(result.error);
  if (job.cancel_requested_ms > 0) return end_job(slot, JobState::cancelled, now, out);
  const std::uint32_t allowed = job.spec.retry.max_retries + (MUTANT(retry_off_by_one) ? 1 : 0);
  if (!result.retryable || job.retry_count >= allowed)
    return end_job(slot, JobState::failed, now, out);
  detach(slot);
  const std::int64_t delay_ms = result.retry_after_ms
                                    ? *result.retry_after_ms
                                    : retry_delay_ms(job.spec.retry,
                                                     job.retry_count,
                                                     jitter_seed(job.id().view(), job.attempt));
  ++job.retry_count;
  job.due_ms = after(now.wall_ms, MUTANT(ignores_backoff) ? 0 : delay_ms);
  move(slot, JobState::pending);
  wall_deadlines_.set(slot, std::min(job.due_ms, expiry_ms(job)));
  jobs_.account(slot);
  ++totals(live).retried;
  fact(JobFactKind::retrying, job, out);
}

void BrokerCore::hand_back(JobSlot slot, Now now, Output& out) {
  LiveJob& live = jobs_.at(slot);
  Job& job = live.job;
  if (job.cancel_requested_ms > 0) return end_job(slot, JobState::cancelled, now, out);
  detach(slot);
  if (MUTANT(hand_back_counts)) ++job.retry_count;
  ++totals(live).handed_back;
  const std::int64_t rests_until_ms = rest_until_ms(job, now);
  if (rests_until_ms == 0) return requeue(slot, out);
  job.due_ms = rests_until_ms;
  move(slot, JobState::pending);
  wall_deadlines_.set(slot, std::min(job.due_ms, expiry_ms(job)));
  fact(JobFactKind::requeued, job, out);
}

// The node of a running job is gone.
void BrokerCore::lose(JobSlot slot, Now now, Output& out) {
  LiveJob& live = jobs_.at(slot);
  Job& job = live.job;
  record_attempt(job, AttemptEnd::lost, nullptr, now);
  ++job.lost_count;
  ++totals(live).lost;
  if (job.cancel_requested_ms > 0) return end_job(slot, JobState::cancelled, now, out);
  if (job.lost_count >= kLostMax)
    return fail_job(slot,
                    "lost_too_often",
                    "its node died " + std::to_string(job.lost_count) +
                        " times while it ran; it may be what kills them",
                    now,
                    out);
  detach(slot);
  requeue(slot, out);
}

// The backstop: the node should have reported a time-out long ago.
void BrokerCore::time_out(JobSlot slot, Now now, Output& out) {
  LiveJob& live = jobs_.at(slot);
  Job& job = live.job;
  if (live.node != kNoNode) {
    Node& node = nodes_.at(live.node);
    node.drops.push_back({job.id(), job.fence()});
    ++node.strays;  // it keeps its slot until a status shows that it is gone
    nodes_.touch(live.node);
  }
  AttemptResult result;
  result.error_code = "timeout";
  result.error = "no report within its time-out of " + std::to_string(job.spec.timeout_ms) + " ms";
  record_attempt(job, AttemptEnd::timed_out, &result, now);
  ++totals(live).timed_out;
  fail_attempt(slot, result, now, out);
}

void BrokerCore::fact(JobFactKind kind, const Job& job, Output& out) const {
  out.facts.push_back(JobFact{kind, &job, job.attempt, job.retry_count});
}

}  // namespace sluice
