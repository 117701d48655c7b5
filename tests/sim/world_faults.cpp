// What goes wrong. Each seed draws which kinds of faults it has and how dense they are (swarm), so
// that rare combinations come up undiluted.
#include "common/mutant.h"
#include "tests/sim/world.h"

namespace sluice::sim {

void World::draw_faults() {
  if (rng_.chance(0.05)) return;  // now and then nothing goes wrong
  const double density = rng_.chance(0.5) ? 0.25 : 0.6;
  for (std::size_t i = 0; i < kFaults; ++i) {
    const auto fault = static_cast<Fault>(i);
    if (is_data_loss(fault) && !loses_data_) continue;
    const bool is_rare = fault == Fault::redis_flushed || fault == Fault::wall_clock_jump;
    if (rng_.chance(is_rare ? density / 5 : density)) faults_.push_back(fault);
  }
  fault_every_ms_ = rng_.chance(0.3) ? rng_.range(100, 500) : rng_.range(500, 5000);
  std::erase_if(faults_, [&](Fault fault) {
    if (fault == Fault::silent_loss) silent_loss_ = rng_.chance(0.5) ? 0.01 : 0.05;
    if (fault == Fault::redis_reply_lost) reply_loss_ = rng_.chance(0.5) ? 0.01 : 0.05;
    return fault == Fault::silent_loss || fault == Fault::redis_reply_lost;
  });
}

void World::fault() {
  if (is_healed_) return;
  if (!faults_.empty()) do_fault(rng_.pick(faults_));
  at(now_ms_ + rng_.about(fault_every_ms_), What::fault);
}

void World::do_fault(Fault fault) {
  if (is_healed_) return;
  trace("fault ", to_string(fault));
  switch (fault) {
    case Fault::disconnect:
    case Fault::half_open:
    case Fault::silent_loss:
    case Fault::mute_to_broker:
    case Fault::mute_from_broker:
    case Fault::delay:
      return network_fault(fault);
    case Fault::broker_crash:
    case Fault::broker_crash_inside:
    case Fault::broker_stopped:
    case Fault::broker_terminated:
    case Fault::second_broker:
      return broker_fault(fault);
    case Fault::worker_crash:
    case Fault::worker_stopped:
    case Fault::worker_drained:
      return worker_fault(fault);
    case Fault::wall_clock_jump:
      coverage_.hit(fault);
      has_clock_jumped_ = true;
      ledger_.clock_jumped();
      wall_base_ms_ += rng_.chance(0.3) ? rng_.range(-40'000'000'000, 40'000'000'000)
                                        : rng_.range(-20'000, 20'000);
      return;
    default:
      return redis_fault(fault);
  }
}

std::uint32_t World::any_conn() {
  const std::uint32_t node = any_node();
  if (node != kNone && rng_.chance(0.7)) return nodes_[node].conn;
  return rng_.pick(producers_).conn;
}

std::uint32_t World::any_node() {
  const Machine& machine = machines_[rng_.index(machines_.size())];
  return machine.node != kNone && nodes_[machine.node].is_alive ? machine.node : kNone;
}

std::uint32_t World::any_broker() {
  std::vector<std::uint32_t> alive;
  for (std::uint32_t i = 0; i < brokers_.size(); ++i)
    if (brokers_[i].is_alive) alive.push_back(i);
  return alive.empty() ? kNone : rng_.pick(alive);
}

void World::network_fault(Fault fault) {
  const std::uint32_t index = any_conn();
  if (index == kNone || !conns_[index].is_open) return;
  Conn& conn = conns_[index];
  coverage_.hit(fault);
  // Often longer than it takes to be taken for dead.
  const std::int64_t until_ms =
      now_ms_ +
      (rng_.chance(0.3) ? rng_.range(1, 2 * config_.core.dead_after_ms) : rng_.about(3000));
  switch (fault) {
    case Fault::disconnect:
      return close(index, rng_.about(100));
    case Fault::half_open:
      return close(index, rng_.range(6000, 30'000));
    case Fault::mute_to_broker:
      conn.mute_to_broker_until_ms = until_ms;
      return;
    case Fault::mute_from_broker:
      conn.mute_to_client_until_ms = until_ms;
      return;
    default:
      conn.slow_until_ms = until_ms;
      return;
  }
}

void World::broker_fault(Fault fault) {
  const std::uint32_t index = any_broker();
  if (index == kNone) return;
  BrokerProcess& broker = brokers_[index];
  if (fault == Fault::second_broker) {
    if (!is_redis_up_ || !refusing_.empty()) return;
    coverage_.hit(fault);
    return start_broker();
  }
  coverage_.hit(fault);
  switch (fault) {
    case Fault::broker_crash:
      return kill_broker(index, rng_.chance(0.5));
    case Fault::broker_crash_inside:
      broker.dies_inside = true;
      return;
    case Fault::broker_stopped:
      broker.stopped_until_ms = now_ms_ + rng_.about(4000);
      return plan_broker(index, now_ms_ + 1);
    default:
      broker.is_stopping = true;
      broker.engine->stop({now_ms_, system_wall_ms()});
      at(now_ms_ + 4000, What::broker_dies, index);
      return plan_broker(index, now_ms_ + 1);
  }
}

void World::worker_fault(Fault fault) {
  const std::uint32_t index = any_node();
  if (index == kNone) return;
  NodeLife& life = nodes_[index];
  coverage_.hit(fault);
  if (fault == Fault::worker_crash) {
    trace("node ", life.id, " dies");
    if (life.conn != kNone && rng_.chance(0.5)) close(life.conn, 0);
    return kill_node(index);
  }
  if (fault == Fault::worker_drained) {
    if (rng_.chance(0.2)) return node_event(index, LeaveRequested{});
    return node_event(index, StopRequested{});
  }
  life.stopped_until_ms =
      now_ms_ +
      (rng_.chance(0.3) ? rng_.range(1, 2 * config_.core.dead_after_ms) : rng_.about(5000));
}

void World::redis_fault(Fault fault) {
  if (!is_redis_up_) return;
  const auto stop_redis = [&] {
    for (std::uint32_t i = 0; i < brokers_.size(); ++i) {
      BrokerProcess& broker = brokers_[i];
      disconnect_store(i, 10);
      if (!broker.is_alive) broker.store.reset();
    }
    is_redis_up_ = false;
    at(now_ms_ + rng_.about(800), What::redis_back);
  };
  switch (fault) {
    case Fault::redis_disconnect: {
      const std::uint32_t index = any_broker();
      if (index == kNone) return;
      coverage_.hit(fault);
      return disconnect_store(index, rng_.about(500));
    }
    case Fault::redis_slow:
      coverage_.hit(fault);
      redis_slow_until_ms_ = now_ms_ + rng_.about(2000);
      return;
    case Fault::redis_refused:
      if (!refusing_.empty()) return;
      coverage_.hit(fault);
      refusing_ = rng_.chance(0.5) ? "OOM command not allowed when used memory > 'maxmemory'"
                                   : "LOADING Redis is loading the dataset in memory";
      for (BrokerProcess& broker : brokers_)
        if (broker.store) broker.store->set_refusing(refusing_);
      return at(now_ms_ + rng_.about(1000), What::refusing_ends);
    case Fault::redis_restart:
      coverage_.hit(fault);
      stop_redis();
      return redis_->restart();
    case Fault::redis_rollback:
      if (!older_redis_) {  // decided now, done within a second: what comes between will be lost
        older_redis_ = *redis_;
        older_truth_ = ledger_.truth();
        return at(now_ms_ + rng_.range(1, 1000), What::redis_rolls_back);
      }
      coverage_.hit(fault);
      stop_redis();
      redis_lost_data(older_truth_, older_redis_->meta.last);
      redis_->roll_back(*older_redis_);
      older_redis_.reset();
      return;
    default:
      if (!ledger_.at_risk().empty()) return;
      coverage_.hit(Fault::redis_flushed);
      older_redis_.reset();
      redis_lost_data({}, 0);
      return redis_->flush();
  }
}

}  // namespace sluice::sim
