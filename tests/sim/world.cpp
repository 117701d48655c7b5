#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "common/check.h"

namespace sluice::sim {

namespace {

// Without faults something must move all the time: back-offs, time-outs and graces are seconds
// here.
constexpr std::int64_t kStandstillMs = 3LL * 60 * 1000;
// And everything must be over at last: a hundred jobs, one by one, each with its retries.
constexpr std::int64_t kQuietMaxMs = 3LL * 3600 * 1000;
constexpr std::uint64_t kAuditEvery = 1000;
constexpr std::uint64_t kTasksSalt = 0x5a17;

}  // namespace

World::World(RunOptions options, Coverage& coverage)
    : options_(options),
      coverage_(coverage),
      rng_(options.seed),
      script_rng_(~options.seed),
      tasks_rng_(options.seed ^ kTasksSalt),
      ledger_(coverage, *redis_) {
  has_isolates_ = !options.has_plain_nodes && script_rng_.chance(0.5);
  reads_tasks_ = !options.has_plain_nodes && tasks_rng_.chance(0.5);
  setup();
}

void World::setup() {
  config_.core.heartbeat_ms = rng_.range(500, 3000);
  config_.core.dead_after_ms = config_.core.heartbeat_ms * rng_.range(3, 6);
  config_.core.grace_ms = config_.core.dead_after_ms;
  config_.view.interval_ms = rng_.chance(0.5) ? 50 : rng_.range(1, 500);
  config_.view.rows_per_call = rng_.chance(0.5) ? 32 : static_cast<std::size_t>(rng_.range(1, 5));
  // With 0, a job that ends within a round of the view is never written to it.
  if (rng_.chance(0.4))
    config_.view.retention.keep_count = static_cast<std::uint64_t>(rng_.range(1, 20) % 20);
  act_every_ms_ = rng_.range(20, 400);
  delay_ms_ = rng_.chance(0.7) ? rng_.range(1, 5) : rng_.range(5, 200);
  deletes_ = rng_.chance(0.3);
  loses_data_ = rng_.chance(0.25);
  if (options_.data_loss != DataLoss::drawn) loses_data_ = options_.data_loss == DataLoss::always;
  if (loses_data_) ++coverage_.data_loss_seeds;
  live_max_ = static_cast<std::size_t>(rng_.range(5, 100));
  const auto machine_count = rng_.range(1, 4);
  for (std::int64_t i = 0; i < machine_count; ++i) {
    Machine machine;
    machine.name = "m" + std::to_string(i);
    machine.concurrency = static_cast<std::uint32_t>(rng_.range(1, 4));
    machine.tasks = {"a"};
    // The first can do everything, so that every job can end.
    if (i == 0 || rng_.chance(0.5)) machine.tasks.emplace_back("b");
    if (i > 0 && rng_.chance(0.3)) machine.queues = {"default", "mail"};
    machines_.push_back(std::move(machine));
  }
  producers_.resize(static_cast<std::size_t>(rng_.range(1, 3)));
  draw_faults();
  draw_memory();
  start_broker();
  for (std::uint32_t i = 0; i < machines_.size(); ++i)
    at(now_ms_ + rng_.range(0, 500), What::node_starts, i);
  for (std::uint32_t i = 0; i < producers_.size(); ++i) {
    at(now_ms_ + rng_.range(0, 100), What::connect, i);
    at(now_ms_ + rng_.range(0, 1000), What::producer_acts, i);
  }
  at(now_ms_ + 2000, What::fault);
}

void World::at(std::int64_t at_ms, What what, std::uint32_t a, std::uint64_t b) {
  queue_.push({at_ms, ++sequence_, what, a, b});
}

void World::run() {
  fault_phase();
  heal();
  quiet_phase();
  final_audit();
  coverage_.events += events_;
  coverage_.simulated_ms += static_cast<std::uint64_t>(now_ms_);
}

void World::fault_phase() {
  const std::uint64_t events_max = options_.events * 4 / 5;
  while (events_ < events_max)
    step();
}

void World::step() {
  CHECK(!queue_.empty());
  const Event event = queue_.top();
  queue_.pop();
  now_ms_ = std::max(now_ms_, event.at);
  const std::uint64_t before = events_;
  handle(event);
  if (before / kAuditEvery != events_ / kAuditEvery) audit();
}

void World::handle(const Event& event) {
  switch (event.what) {
    case What::deliver:
      return deliver(event.a);
    case What::broker_turn:
      if (brokers_[event.a].planned_ms == event.at) broker_turn(event.a);
      return;
    case What::node_turn:
      if (nodes_[event.a].planned_ms == event.at) node_turn(event.a);
      return;
    case What::store_execute:
      return execute(event.a, event.b);
    case What::attempt_done:
      return attempt_done(event.a, event.b);
    case What::checkpoint:
      return checkpoint(event.a, event.b);
    case What::spawner_dies:
      return spawner_dies(event.a);
    case What::producer_acts:
      return producer_acts(event.a);
    case What::producer_again:
      return ask_again(event.a, event.b);
    case What::conn_noticed:
      return noticed(event.a);
    case What::connect:
      return connect(event.a);
    case What::broker_starts:
      is_start_planned_ = false;
      return start_broker();
    case What::node_starts:
      return start_node(event.a);
    case What::node_reads_tasks:
      return node_reads_tasks(event.a);
    case What::fault:
      return fault();
    case What::redis_back:
      is_redis_up_ = true;
      return connect_stores();
    case What::redis_rolls_back:
      if (older_redis_ && is_redis_up_) do_fault(Fault::redis_rollback);
      older_redis_.reset();  // it loses its last second, not more
      return;
    case What::broker_dies:
      return kill_broker(event.a, false);
    case What::refusing_ends:
      refusing_.clear();
      for (BrokerProcess& broker : brokers_)
        if (broker.store) broker.store->set_refusing("");
      return;
  }
}

// The faults are over: what is stopped goes on, what is dead starts again, what is mute speaks, and
// every task is offered.
void World::heal() {
  trace("---- healed");
  is_healed_ = true;
  silent_loss_ = reply_loss_ = 0;
  redis_slow_until_ms_ = 0;
  older_redis_.reset();
  if (!refusing_.empty()) at(now_ms_, What::refusing_ends);
  for (Conn& conn : conns_)
    conn.mute_to_broker_until_ms = conn.mute_to_client_until_ms = conn.slow_until_ms = 0;
  const std::uint32_t newest = listening();
  for (std::uint32_t i = 0; i < brokers_.size(); ++i) {
    BrokerProcess& broker = brokers_[i];
    if (!broker.is_alive) continue;
    if (i != newest) {
      kill_broker(i, false);
      continue;
    }
    broker.dies_inside = false;
    broker.stopped_until_ms = now_ms_;
    plan_broker(i, now_ms_ + 1);
  }
  for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i].is_alive) continue;
    nodes_[i].stopped_until_ms = now_ms_;
    plan_node(i, now_ms_ + 1);
    if (reads_tasks_) at(now_ms_, What::node_reads_tasks, i);
  }
  if (!is_redis_up_) at(now_ms_ + 10, What::redis_back);
  connect_stores();
  // What people had stopped goes on as well.
  for (Producer& producer : producers_)
    for (Ask& ask : producer.asks)
      if (std::holds_alternative<Pause>(ask.body)) ask.is_done = true;
  at(now_ms_, What::producer_acts, 0);
  at(now_ms_ + 15'000, What::producer_acts, 0);
}

void World::quiet_phase() {
  const std::int64_t end_ms = now_ms_ + kQuietMaxMs;
  std::int64_t until_ms = now_ms_ + kStandstillMs;
  std::uint64_t moves = ledger_.moves(), looks = 0;
  while (now_ms_ < std::min(until_ms, end_ms)) {
    // Not always after as many: heartbeats have a period, and each is a moment of unrest.
    const std::uint64_t look_at = events_ + 50 + looks++ % 13;
    while (events_ < look_at && now_ms_ < std::min(until_ms, end_ms))
      step();
    if (unrest() == nullptr) return;
    if (ledger_.moves() != moves) until_ms = now_ms_ + kStandstillMs;
    moves = ledger_.moves();
  }
  trace("---- no rest: ", unrest());
  trace_stuck();
  ledger_.audit(true, broker_wall_ms());
  for (const auto& producer : producers_)
    for (const Ask& ask : producer.asks)
      REQUIRE(ask.is_done || waits_beyond_the_run(ask),
              "every_request_answered",
              "kind " + std::to_string(ask.body.index()) + " was never answered");
  REQUIRE(false, "liveness", std::string("no rest: ") + unrest());
}

// A submit that waits for the end of its jobs, one of which a clock gone wrong has put years ahead.
bool World::waits_beyond_the_run(const Ask& ask) const {
  const auto* submit = std::get_if<Submit>(&ask.body);
  if (!has_clock_jumped_ || submit == nullptr || !submit->wait) return false;
  return std::any_of(submit->jobs.begin(), submit->jobs.end(), [&](const auto& entry) {
    const Ledger::Durable* durable = ledger_.known(std::get<JobSpec>(entry).id);
    return durable != nullptr && durable->is_live() &&
           has_come_to_rest(durable->job, broker_wall_ms());
  });
}

// Why the world is not at rest; null when it is.
const char* World::unrest() {
  const std::uint32_t newest = listening();
  if (newest == kNone) return "no broker";
  if (!ledger_.at_risk().empty()) return "what Redis lost is not put back";
  for (const Producer& producer : producers_)
    for (std::size_t i = producer.first_open; i < producer.asks.size(); ++i)
      if (!producer.asks[i].is_done && !waits_beyond_the_run(producer.asks[i]))
        return "a request is not answered";
  if (ledger_.live_count() > 0) {
    if (!has_clock_jumped_) return "a job has not ended";
    for (const auto& [id, durable] : ledger_.truth())
      if (durable.is_live() && !ledger_.is_excused(id) &&
          !has_come_to_rest(durable.job, broker_wall_ms()))
        return "a job has not ended";
  }
  for (const NodeLife& node : nodes_)
    if (node.is_alive && node.core->held_count() > 0) return "a node holds an attempt";
  if (!brokers_[newest].engine->is_drained()) return "the broker has something to write or to say";
  return nullptr;
}

// What the newest broker knows of the jobs that do not end, and what the nodes hold.
void World::trace_stuck() {
  const std::uint32_t newest = listening();
  if (newest == kNone || !options_.verbose) return;
  const Engine& engine = *brokers_[newest].engine;
  const BrokerCore& core = engine.core();
  trace("broker ",
        newest,
        " batches ",
        engine.pipeline().confirmed(),
        " of ",
        engine.pipeline().next_n() - 1,
        core.is_store_down() ? " store down" : "");
  for (const auto& [id, durable] : ledger_.truth()) {
    if (!durable.is_live()) continue;
    const auto slot = core.jobs().find(id);
    trace(id.str(),
          " ",
          to_string(durable.job.state),
          " attempt ",
          durable.job.attempt,
          " task ",
          durable.job.spec.task,
          " queue ",
          durable.job.spec.queue,
          " node ",
          durable.job.node,
          "; in memory ",
          slot ? to_string(core.jobs().at(*slot).job.state) : "not");
  }
  for (const NodeIndex index : core.nodes().used()) {
    const Node& node = core.nodes().at(index);
    trace("node ",
          node.id,
          " attempts ",
          node.attempts.size(),
          " strays ",
          node.strays,
          " of ",
          node.concurrency,
          node.is_draining ? " draining" : "");
  }
  for (const NodeLife& node : nodes_)
    if (node.is_alive)
      trace("node ",
            node.id,
            " runs ",
            node.process_count,
            " holds ",
            node.core->held_count(),
            " conn ",
            node.conn,
            " planned ",
            node.planned_ms);
}

void World::audit() {
  ledger_.audit(false, broker_wall_ms());
  const std::string wrong = redis_->audit();
  REQUIRE(wrong.empty(), "index_agrees", wrong);
  const std::uint32_t newest = listening();
  if (newest != kNone) check_memory(brokers_[newest]);
}

// The view holds every job that was not deleted or removed by retention, as the log has it.
void World::final_audit() {
  audit();
  check_rest_is_small();
  for (const auto& [id, log] : redis_->job_logs)
    REQUIRE(redis_->jobs.contains(id), "log_goes_with_job", "a log has outlived its job: " + id);
  coverage_.hit(Sometimes::log_kept, redis_->job_logs.size());
  ledger_.audit(true, broker_wall_ms());
  for (const auto& [id, durable] : ledger_.truth()) {
    const auto found = redis_->jobs.find(id.str());
    if (found == redis_->jobs.end()) continue;
    REQUIRE(!durable.is_removed, "index_agrees", "deleted, and still in the view: " + id.str());
    REQUIRE(found->second.state == durable.job.state,
            "index_agrees",
            id.str() + ": the view says " + std::string(to_string(found->second.state)));
  }
}

// FNV-1a over words of eight bytes.
void World::mix(std::string_view bytes) {
  constexpr std::uint64_t kPrime = 1099511628211ULL;
  while (bytes.size() >= sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    hash_ = (hash_ ^ word) * kPrime;
    hash_ ^= hash_ >> 29;
    bytes.remove_prefix(sizeof word);
  }
  for (const char byte : bytes)
    hash_ = (hash_ ^ static_cast<unsigned char>(byte)) * kPrime;
}

void World::print_trace(const std::string& line) const {
  std::printf("%8lld.%03lld %s\n",
              static_cast<long long>(now_ms_ / 1000),
              static_cast<long long>(now_ms_ % 1000),
              line.c_str());
}

}  // namespace sluice::sim
