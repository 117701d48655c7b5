// Worker nodes: real WorkerCores; the runtime below them is a script. An attempt takes its time,
// ends as it was drawn to, and its process is gone only when the script says so.
#include "common/protocol/codec.h"
#include "tests/sim/world.h"

namespace sluice::sim {

void World::start_node(std::uint32_t machine_index) {
  Machine& machine = machines_[machine_index];
  if (machine.node != kNone && nodes_[machine.node].is_alive) return;
  NodeLife life;
  life.machine = machine_index;
  life.id = machine.name + "@" + std::to_string(++machine.lives);
  WorkerSettings settings;
  settings.node = life.id;
  // Without its state directory a node does not know the life before.
  if (machine.node != kNone && rng_.chance(0.6)) settings.replaces = nodes_[machine.node].id;
  settings.concurrency = machine.concurrency;
  settings.tasks = machine.tasks;
  settings.queues = machine.queues;
  settings.drain_grace_ms = rng_.range(100, 5000);
  life.core = std::make_unique<WorkerCore>(settings);
  const auto index = static_cast<std::uint32_t>(nodes_.size());
  machine.node = index;
  trace("node ", life.id, " starts, replaces '", settings.replaces, "'");
  nodes_.push_back(std::move(life));
  at(now_ms_ + rng_.range(1, 50), What::connect, kNodeClients + index);
}

void World::node_event(std::uint32_t index, WorkerEvent event) {
  NodeLife& life = nodes_[index];
  if (!life.is_alive) return;
  life.inbox.push_back(std::move(event));
  plan_node(index, now_ms_);
}

void World::plan_node(std::uint32_t index, std::int64_t at_ms) {
  NodeLife& life = nodes_[index];
  at_ms = std::max({at_ms, now_ms_, life.stopped_until_ms});
  const bool is_later = life.planned_ms >= now_ms_ && life.planned_ms <= at_ms;
  if (at_ms == kNever || is_later) return;
  life.planned_ms = at_ms;
  at(at_ms, What::node_turn, index);
}

void World::node_turn(std::uint32_t index) {
  NodeLife& life = nodes_[index];
  if (!life.is_alive) return;
  life.planned_ms = kNever;
  if (life.stopped_until_ms > now_ms_) return plan_node(index, life.stopped_until_ms);
  ++events_;
  const Now now{now_ms_, system_wall_ms()};
  WorkerOutput out;
  for (WorkerEvent& event : std::exchange(life.inbox, {}))
    life.core->handle(std::move(event), now, out);
  life.core->settle(now, out);
  for (const AttemptStop& stop : out.stops)
    stop_attempt(life, index, stop);
  for (Assignment& assignment : out.starts)
    start_attempt(index, std::move(assignment));
  if (out.exit == ExitWish::at_once) {
    life.process_count = 0;
    for (Attempt& attempt : life.attempts)
      attempt.is_over = true;
  }
  for (const WorkerMessage& message : out.sends)
    node_sends(life, message);
  if (out.exit == ExitWish::none)
    return plan_node(index, std::max(now_ms_ + 1, life.core->next_deadline_mono_ms()));
  trace("node ", life.id, " leaves");
  REQUIRE(out.exit != ExitWish::drained || out.unacknowledged_count == 0,
          "result_kept_until_acked",
          life.id + " left with results that nobody has");
  kill_node(index);
}

void World::node_sends(NodeLife& life, const WorkerMessage& message) {
  if (life.conn == kNone) return;
  if (const auto* results = std::get_if<Results>(&message))
    for (const AttemptResult& result : results->results)
      ledger_.reported(life.id, result);
  send(life.conn, true, encode_worker_message(message));
}

void World::start_attempt(std::uint32_t index, Assignment assignment) {
  NodeLife& life = nodes_[index];
  const RunJob& job = assignment.job;
  ledger_.started(life.id, job, system_wall_ms(), !has_clock_jumped_);
  ++life.process_count;
  REQUIRE(life.process_count <= machines_[life.machine].concurrency,
          "limit_held",
          life.id + " runs " + std::to_string(life.process_count) + " of " +
              std::to_string(machines_[life.machine].concurrency));
  Attempt attempt;
  attempt.key = {job.id, job.fence};
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
  std::int64_t takes_ms = rng_.about(30);
  if (rng_.chance(0.3)) takes_ms = rng_.about(1500);
  if (!is_healed_ && rng_.chance(0.05)) takes_ms = rng_.range(5000, 40'000);
  attempt.hangs = !is_healed_ && job.timeout_ms > 0 && rng_.chance(0.05);
  const std::uint64_t number = life.attempts.size();
  life.attempts.push_back(std::move(attempt));
  if (!life.attempts.back().hangs) at(now_ms_ + takes_ms, What::attempt_done, index, number);
  trace("node ", life.id, " runs ", job.id.str(), " attempt ", job.fence.attempt);
}

// Asked to stop: its process goes within seconds, unless it was about to end anyway; now and then
// it cannot be killed for longer than the broker waits.
void World::stop_attempt(NodeLife& life, std::uint32_t index, const AttemptStop& stop) {
  for (std::uint64_t number = 0; number < life.attempts.size(); ++number) {
    Attempt& attempt = life.attempts[number];
    if (attempt.is_over || attempt.key != stop.key) continue;
    attempt.stopped = stop.reason;
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
  const bool ends_as_told = attempt.stopped && (!attempt.is_stubborn || attempt.hangs);
  if (ends_as_told) {
    result.result.clear();
    result.error_code.clear();
    result.retry_after_ms.reset();
    result.retryable = true;
    switch (*attempt.stopped) {
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
  node_event(index, AttemptDone{std::move(result)});
}

// The process and everything below it are gone; the machine starts it again later.
void World::kill_node(std::uint32_t index) {
  NodeLife& life = nodes_[index];
  if (!life.is_alive) return;
  life.is_alive = false;
  life.inbox.clear();
  life.attempts.clear();
  life.process_count = 0;
  if (life.conn != kNone) {
    // What it sent last is still under way; what is on its way to it is gone with it.
    conns_[life.conn].mute_to_client_until_ms = kNever;
  }
  at(now_ms_ + rng_.about(2000), What::node_starts, life.machine);
}

}  // namespace sluice::sim
