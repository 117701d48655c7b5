// The runtime below the nodes: a script. An attempt takes its time, ends as it was drawn to, and
// its process is gone only when the script says so. In half of the seeds some nodes run their jobs
// in isolates, fewer than there are slots: a job waits for a free one in its slot; one crashes, or
// leaves with a job unread; the spawner dies. And handlers save their place, and wait until it is
// recorded. And every attempt logs its end.
#include <charconv>

#include "tests/sim/world.h"

namespace sluice::sim {

namespace {

// What a runtime makes of an attempt that was stopped before it ended by itself.
void end_as_told(AttemptResult& result, StopReason reason) {
  result.result.clear();
  result.error_code.clear();
  result.retry_after_ms.reset();
  result.retryable = true;
  switch (reason) {
    case StopReason::cancel:
    case StopReason::dropped:
      result.outcome = Outcome::cancelled;
      break;
    case StopReason::timed_out:
      result.outcome = Outcome::failed;
      result.error_code = "timeout";
      break;
    case StopReason::hand_back:
      result.outcome = Outcome::handed_back;
      break;
  }
}

}  // namespace

Pool World::draw_pool(const Machine& machine, Rng& rng) const {
  if (!has_isolates_ || !rng.chance(0.7)) return Pool(0);
  return Pool(static_cast<std::uint32_t>(rng.range(1, machine.concurrency)));
}

void World::start_attempt(std::uint32_t index, Assignment assignment) {
  NodeLife& life = nodes_[index];
  const RunJob& job = assignment.job;
  check_offered(life, job);
  ledger_.started(life.id, job, system_wall_ms(), !has_clock_jumped_);
  ++life.process_count;
  REQUIRE(life.process_count <= machines_[life.machine].concurrency,
          "limit_held",
          life.id + " runs " + std::to_string(life.process_count) + " of " +
              std::to_string(machines_[life.machine].concurrency));
  Attempt attempt;
  attempt.key = {job.id, job.fence};
  attempt.pool = life.pools.size() - 1;
  attempt.is_stubborn = rng_.chance(0.3);
  AttemptResult& result = attempt.planned;
  result.id = job.id;
  result.fence = job.fence;
  if (rng_.chance(0.6)) {
    result.result = job.id.str() + "#" + std::to_string(job.fence.attempt);
  } else {
    result.outcome = Outcome::failed;
    result.error_code = "failed";
    result.retryable = !rng_.chance(0.1);
    if (rng_.chance(0.2)) {
      result.retry_after_ms = rng_.range(0, 2000);
      result.error_code = "retry_after";
    }
  }
  attempt.takes_ms = rng_.about(30);
  if (rng_.chance(0.3)) attempt.takes_ms = rng_.about(1500);
  if (!is_healed_ && rng_.chance(0.05)) attempt.takes_ms = rng_.range(5000, 40'000);
  attempt.hangs = !is_healed_ && job.timeout_ms > 0 && rng_.chance(0.05);
  trace("node ", life.id, " runs ", job.id.str(), " attempt ", job.fence.attempt);
  const std::uint64_t number = life.attempts.size();
  life.attempts.push_back(std::move(attempt));
  Pool& pool = life.pools.back();
  if (!pool.is_full()) return begin_attempt(index, number);
  coverage_.hit(Sometimes::waited_for_isolate);
  life.attempts.back().is_waiting = true;
  pool.waiting.push_back(number);
}

void World::begin_attempt(std::uint32_t index, std::uint64_t number) {
  NodeLife& life = nodes_[index];
  Attempt& attempt = life.attempts[number];
  attempt.is_waiting = false;
  if (!attempt.hangs) at(now_ms_ + attempt.takes_ms, What::attempt_done, index, number);
  if (!has_isolates_) return;
  if (script_rng_.chance(0.3))
    at(now_ms_ + script_rng_.range(0, attempt.takes_ms), What::checkpoint, index, number);
  Pool& pool = life.pools[attempt.pool];
  if (!pool.has_isolates()) return;
  pool.begin();
  attempt.begun_ms = now_ms_;
  if (is_healed_) return;
  if (script_rng_.chance(0.05)) {
    coverage_.hit(Sometimes::isolate_crashed);
    attempt.ends_isolate = true;
    attempt.is_stubborn = false;
    attempt.planned.outcome = Outcome::failed;
    attempt.planned.error_code = "isolate_crashed";
    attempt.planned.retryable = true;
    attempt.planned.retry_after_ms.reset();
  } else if (script_rng_.chance(0.02)) {
    coverage_.hit(Sometimes::isolate_left);
    attempt.ends_isolate = true;
    attempt.is_stubborn = false;
    end_as_told(attempt.planned, StopReason::hand_back);
  } else if (script_rng_.chance(0.01)) {
    at(now_ms_ + attempt.takes_ms / 2, What::spawner_dies, index);
  }
}

// Asked to stop: its process goes within seconds, unless it was about to end anyway; now and then
// it cannot be killed for longer than the broker waits. One that still waits for an isolate ends
// there and then.
void World::stop_attempt(NodeLife& life, std::uint32_t index, const AttemptStop& stop) {
  for (std::uint64_t number = 0; number < life.attempts.size(); ++number) {
    Attempt& attempt = life.attempts[number];
    if (attempt.is_over || attempt.key != stop.key) continue;
    attempt.stopped = stop.reason;
    if (attempt.is_waiting) {
      std::erase(life.pools[attempt.pool].waiting, number);
      attempt.is_stubborn = false;
      at(now_ms_, What::attempt_done, index, number);
      continue;
    }
    const bool hangs_on = !is_healed_ && rng_.chance(0.05);
    const std::int64_t takes_ms = hangs_on ? rng_.range(15'000, 60'000) : rng_.about(300);
    at(now_ms_ + takes_ms, What::attempt_done, index, number);
  }
}

void World::attempt_done(std::uint32_t index, std::uint64_t number) {
  NodeLife& life = nodes_[index];
  if (!life.is_alive || life.attempts[number].is_over) return;
  Attempt& attempt = life.attempts[number];
  attempt.is_over = true;
  --life.process_count;
  AttemptResult result = std::move(attempt.planned);
  if (attempt.stopped && (!attempt.is_stubborn || attempt.hangs))
    end_as_told(result, *attempt.stopped);
  if (has_isolates_) node_event(index, AttemptLog{attempt.key.id, attempt.key.fence, "the end\n"});
  node_event(index, AttemptDone{std::move(result)});
  Pool& pool = life.pools[attempt.pool];
  if (!pool.has_isolates() || attempt.is_waiting) return;
  if (attempt.ends_isolate)
    pool.end_with_isolate();
  else
    pool.end(now_ms_ - attempt.begun_ms);
  if (pool.waiting.empty()) return;
  const std::uint64_t next = pool.waiting.front();
  pool.waiting.pop_front();
  begin_attempt(index, next);
}

// With all that it started; the node hands everything back and leaves.
void World::spawner_dies(std::uint32_t index) {
  NodeLife& life = nodes_[index];
  if (!life.is_alive || is_healed_) return;
  coverage_.hit(Sometimes::spawner_died);
  trace("node ", life.id, " loses its spawner");
  for (Pool& pool : life.pools)
    pool.end_all();
  life.process_count = 0;
  for (Attempt& attempt : life.attempts) {
    if (std::exchange(attempt.is_over, true)) continue;
    AttemptResult result = std::move(attempt.planned);
    end_as_told(result, attempt.stopped.value_or(StopReason::hand_back));
    node_event(index, AttemptDone{std::move(result)});
  }
  node_event(index, RuntimeBroken{"the spawner died"});
}

// The handler saves its place, and goes on when it is recorded; now and then another of its threads
// does the same meanwhile.
void World::checkpoint(std::uint32_t index, std::uint64_t number) {
  NodeLife& life = nodes_[index];
  if (!life.is_alive || life.attempts[number].is_over) return;
  Attempt& attempt = life.attempts[number];
  AttemptProgress progress{attempt.key.id, attempt.key.fence, 50, "", {}, ++attempt.saved_n};
  progress.checkpoint = Place{attempt.key.fence.attempt, attempt.saved_n}.text();
  node_event(index, std::move(progress));
  if (script_rng_.chance(0.2)) at(now_ms_ + script_rng_.about(50), What::checkpoint, index, number);
}

void World::checkpoint_answered(std::uint32_t index, const CheckpointAnswer& answer) {
  const NodeLife& life = nodes_[index];
  for (std::uint64_t number = 0; number < life.attempts.size(); ++number) {
    const Attempt& attempt = life.attempts[number];
    if (attempt.is_over || attempt.key != answer.key) continue;
    if (!answer.is_recorded) continue;
    coverage_.hit(Sometimes::checkpoint_recorded);
    ledger_.saved(answer.key.id, {answer.key.fence.attempt, answer.awaited_n});
    if (script_rng_.chance(0.5))
      at(now_ms_ + script_rng_.about(100), What::checkpoint, index, number);
  }
}

}  // namespace sluice::sim
