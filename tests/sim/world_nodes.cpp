// Worker nodes: real WorkerCores; world_runtime.cpp has the runtime below them.
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
  settings.tasks = life.tasks = machine.tasks;
  settings.queues = machine.queues;
  settings.drain_grace_ms = rng_.range(100, 5000);
  life.core = std::make_unique<WorkerCore>(settings);
  life.pools = {draw_pool(machine, script_rng_)};
  const auto index = static_cast<std::uint32_t>(nodes_.size());
  machine.node = index;
  trace("node ", life.id, " starts, replaces '", settings.replaces, "'");
  node_of_[life.id] = index;
  nodes_.push_back(std::move(life));
  if (reads_tasks_) plan_reading(index);
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
  for (const CheckpointAnswer& answer : out.answers)
    checkpoint_answered(index, answer);
  if (out.exit == ExitWish::at_once) {
    life.process_count = 0;
    for (Attempt& attempt : life.attempts)
      attempt.is_over = true;
  }
  for (WorkerMessage& message : out.sends)
    node_sends(life, message);
  if (out.exit == ExitWish::none)
    return plan_node(index, std::max(now_ms_ + 1, life.core->next_deadline_mono_ms()));
  trace("node ", life.id, " leaves");
  REQUIRE(out.exit != ExitWish::drained || out.unacknowledged_count == 0,
          "result_kept_until_acked",
          life.id + " left with results that nobody has");
  kill_node(index);
}

void World::node_sends(NodeLife& life, WorkerMessage& message) {
  if (auto* status = std::get_if<Status>(&message)) add_figures(life, *status);
  if (life.conn == kNone) return;
  if (const auto* results = std::get_if<Results>(&message)) {
    see_hand_backs(life, *results);
    for (const AttemptResult& result : results->results)
      ledger_.reported(life.id, result);
  }
  send(life.conn, true, encode_worker_message(message));
}

// The process and everything below it are gone; the machine starts it again later.
void World::kill_node(std::uint32_t index) {
  NodeLife& life = nodes_[index];
  if (!life.is_alive) return;
  life.is_alive = false;
  life.inbox.clear();
  life.attempts.clear();
  life.pools.clear();
  life.process_count = 0;
  if (life.conn != kNone) {
    // What it sent last is still under way; what is on its way to it is gone with it.
    conns_[life.conn].mute_to_client_until_ms = kNever;
  }
  at(now_ms_ + rng_.about(2000), What::node_starts, life.machine);
}

}  // namespace sluice::sim
