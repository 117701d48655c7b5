// Broker processes: real Engines, each with its connection to the one Redis.
#include <algorithm>

#include "broker/store/log_entry.h"
#include "common/mutant.h"
#include "common/protocol/codec.h"
#include "tests/sim/world.h"

namespace sluice::sim {

namespace {

constexpr std::int64_t kGapMs = 1000;  // as in broker/loop.cpp

}  // namespace

std::uint32_t World::listening() const {
  for (auto i = static_cast<std::uint32_t>(brokers_.size()); i-- > 0;)
    if (brokers_[i].is_alive) return i;
  return kNone;
}

// ---------------------------------------------------------------- life and death

void World::start_broker() {
  if (!is_redis_up_ || !refusing_.empty()) {
    if (!is_start_planned_) at(now_ms_ + 200, What::broker_starts);
    is_start_planned_ = true;
    return;
  }
  const auto index = static_cast<std::uint32_t>(brokers_.size());
  brokers_.emplace_back();
  BrokerProcess& broker = brokers_.back();
  broker.owner = "b" + std::to_string(index);
  broker.started_ms = now_ms_;
  broker.store = std::make_unique<MemoryStore>(redis_);
  // Whoever held what Redis lost can not put it back any more.
  ledger_.excuse_all_at_risk();
  const std::uint64_t epoch_before = redis_->meta.exists ? redis_->meta.epoch : 0;
  auto opened =
      broker.store->open(broker.owner, static_cast<std::uint64_t>(system_wall_ms()), read_on);
  REQUIRE(opened.has_value(), "no_accepted_job_lost", "open() fails");
  REQUIRE(opened->snapshot.epoch > epoch_before, "fenced_owner", "the epoch was not raised");
  ledger_.took_over(opened->snapshot.epoch, broker.owner);
  broker.store->set_held(true);
  broker.clock.emplace(now_ms_, system_wall_ms());
  EngineConfig config = config_;
  config.owner = broker.owner;
  broker.engine =
      std::make_unique<Engine>(config, std::move(*opened), Now{now_ms_, system_wall_ms()});
  trace("broker ",
        index,
        " takes over, epoch ",
        broker.engine->core().epoch(),
        ", running ",
        broker.engine->core().running_count());
  if (index > 0 && broker.engine->core().running_count() > 0) {
    coverage_.hit(Sometimes::takeover_while_running);
    std::uint64_t held = 0;
    for (const NodeLife& node : nodes_)
      if (node.is_alive) held += node.core->held_count();
    if (held < broker.engine->core().running_count())
      coverage_.hit(Sometimes::takeover_while_dispatching);
  }
  check_recovery(broker);
  plan_broker(index, now_ms_ + 1);
}

// kill -9. What it had handed to its connection may still reach Redis afterwards.
void World::kill_broker(std::uint32_t index, bool leaves_orphans) {
  BrokerProcess& broker = brokers_[index];
  if (!broker.is_alive) return;
  trace("broker ", index, " is gone");
  broker.is_alive = false;
  broker.inbox.clear();
  broker.engine.reset();
  if (!leaves_orphans) broker.store.reset();
  if (risk_owner_ == index) {
    ledger_.excuse_all_at_risk();
    risk_owner_ = kNone;
  }
  for (std::uint32_t i = 0; i < conns_.size(); ++i)
    if (conns_[i].broker == index) close(i, rng_.about(200));
  if (listening() == kNone && !is_start_planned_) {
    is_start_planned_ = true;
    at(now_ms_ + rng_.about(1500), What::broker_starts);
  }
}

// Everything that Redis has of a live job is in the memory of a broker that has just started.
void World::check_recovery(const BrokerProcess& broker) const {
  const BrokerCore& core = broker.engine->core();
  for (const auto& [id, durable] : ledger_.truth()) {
    if (durable.is_removed || is_ended(durable.job.state)) continue;
    const auto slot = core.jobs().find(id);
    REQUIRE(slot.has_value(), "no_accepted_job_lost", "not found at a start: " + id.str());
    const Job& job = core.jobs().at(*slot).job;
    REQUIRE(job.revision == durable.job.revision && job.state == durable.job.state &&
                job.fence() == durable.job.fence(),
            "no_accepted_job_lost",
            "started from an older state: " + text(job) + ", durable " + text(durable.job));
  }
}

void World::check_memory(const BrokerProcess& broker) const {
  const BrokerCore& core = broker.engine->core();
  const bool is_owner = redis_->meta.exists && redis_->meta.owner == broker.owner &&
                        redis_->meta.epoch == core.epoch();
  const CommitPipeline& pipeline = broker.engine->pipeline();
  const bool is_written = !core.has_writes() && pipeline.confirmed() + 1 == pipeline.next_n();
  if (!is_owner || !is_written || !ledger_.at_risk().empty() || core.is_store_down()) return;
  for (const auto& [id, durable] : ledger_.truth()) {
    if (!durable.is_live() || ledger_.is_excused(id)) continue;
    const auto slot = core.jobs().find(id);
    REQUIRE(slot && core.jobs().at(*slot).job.revision >= durable.job.revision,
            "no_accepted_job_lost",
            "the broker has forgotten " + text(durable.job));
  }
}

// ---------------------------------------------------------------- a turn

void World::plan_broker(std::uint32_t index, std::int64_t at_ms) {
  BrokerProcess& broker = brokers_[index];
  if (!broker.is_alive || at_ms == kNever) return;
  // At most one turn in a millisecond: what arrives within it is one batch of events.
  at_ms = std::max({at_ms, now_ms_, broker.last_turn_ms + 1});
  if (broker.stopped_until_ms > at_ms) {  // what passes until then is a gap that it will notice
    broker.asleep_since_ms = std::min(broker.asleep_since_ms, at_ms);
    at_ms = broker.stopped_until_ms;
  }
  if (broker.planned_ms <= at_ms) return;
  broker.planned_ms = at_ms;
  at(at_ms, What::broker_turn, index);
}

void World::broker_turn(std::uint32_t index) {
  BrokerProcess& broker = brokers_[index];
  if (!broker.is_alive) return;
  broker.planned_ms = kNever;
  if (broker.stopped_until_ms > now_ms_) return plan_broker(index, now_ms_);
  Engine& engine = *broker.engine;
  bool has_jumped = false;
  const Now now = broker.clock->update(now_ms_, system_wall_ms(), has_jumped);
  broker.clock_behind_ms = system_wall_ms() - now.wall_ms;
  const std::int64_t asleep_since_ms = std::exchange(broker.asleep_since_ms, kNever);
  if (asleep_since_ms != kNever && now_ms_ - asleep_since_ms > kGapMs)
    engine.slept(now_ms_ - asleep_since_ms, now);
  broker.last_turn_ms = now_ms_;
  ++events_;

  std::vector<Parcel> kept;
  for (Parcel& parcel : std::exchange(broker.inbox, {})) {
    const Admission before = admission(broker);
    Peer peer{"c" + std::to_string(parcel.conn), false};
    if (is_node(conns_[parcel.conn].client))
      engine.receive_worker(std::move(peer), parcel.bytes, now);
    else if (engine.wants_producers(now))
      engine.receive_producer(std::move(peer), parcel.bytes, now);
    else
      kept.push_back(std::move(parcel));
    check_admission(broker, before);
  }
  broker.inbox = std::move(kept);
  std::vector<StoreReply> replies;
  broker.store->receive(replies);
  for (StoreReply& reply : replies) {
    ++events_;
    if (const auto* commit = std::get_if<CommitReply>(&reply))
      if (commit->answer == CommitAnswer::already) coverage_.hit(Sometimes::commit_resent);
    const Admission before = admission(broker);
    engine.receive_store(std::move(reply), now);
    check_admission(broker, before);
  }
  engine.turn(now);
  check_dealt(broker, now);
  check_nodes(broker);
  check_bounds(broker, now);

  std::vector<StoreRequest> requests;
  engine.take_store_requests(requests);
  const std::size_t sent = broker.dies_inside ? rng_.index(requests.size() + 1) : requests.size();
  for (std::size_t i = 0; i < sent; ++i)
    ask_store(index, std::move(requests[i]));
  std::vector<Frame> frames;
  engine.take_frames(frames);
  const std::size_t spoken = broker.dies_inside
                                 ? (sent < requests.size() ? 0 : rng_.index(frames.size() + 1))
                                 : frames.size();
  for (std::size_t i = 0; i < spoken; ++i)
    speak(index, frames[i]);
  if (broker.dies_inside) return kill_broker(index, rng_.chance(0.5));

  see_facts(broker, index);
  if (engine.is_fenced()) {
    coverage_.hit(Sometimes::broker_fenced);
    return kill_broker(index, rng_.chance(0.5));
  }
  if (broker.is_stopping && engine.is_drained()) return kill_broker(index, true);
  plan_broker(index, std::max(now_ms_ + 1, engine.next_deadline_mono_ms(now)));
  if (!broker.inbox.empty() && engine.wants_producers(now)) plan_broker(index, now_ms_ + 1);
}

// Of what was dealt in this turn: its node offers it, as far as the broker knows, and no ready job
// of a higher priority was left that its node takes.
void World::check_dealt(BrokerProcess& broker, Now now) {
  const BrokerCore& core = broker.engine->core();
  if (core.counters().dispatched == broker.dispatched) return;
  broker.dispatched = core.counters().dispatched;
  const JobTable& jobs = core.jobs();
  for (JobSlot slot = 0; slot < jobs.slot_count(); ++slot) {
    const LiveJob& dealt = jobs.at(slot);
    const bool is_dealt = dealt.is_used && dealt.job.state == JobState::running &&
                          dealt.node != kNoNode && dealt.job.started_ms == now.wall_ms &&
                          dealt.job.epoch == core.epoch() && dealt.is_dirty;
    if (!is_dealt) continue;
    const Node& node = core.nodes().at(dealt.node);
    REQUIRE(node.offers(dealt.job.spec.task, dealt.job.spec.queue),
            "dealt_where_offered",
            dealt.job.id().str() + " of the task " + dealt.job.spec.task + " is dealt to " +
                node.id + ", which does not offer it any more");
    for (JobSlot other = 0; other < jobs.slot_count(); ++other) {
      const LiveJob& waits = jobs.at(other);
      if (!waits.is_used || waits.job.state != JobState::queued) continue;
      if (waits.job.spec.priority <= dealt.job.spec.priority) continue;
      if (core.queues().is_paused(waits.line)) continue;
      REQUIRE(!node.offers(waits.job.spec.task, waits.job.spec.queue),
              "priority_order",
              waits.job.id().str() + " waits while " + dealt.job.id().str() + " is dealt");
    }
  }
}

void World::see_facts(BrokerProcess& broker, std::uint32_t index) {
  std::vector<EngineFact> facts;
  broker.engine->take_facts(facts);
  for (const EngineFact& fact : facts) {
    if (fact.kind == EngineFact::Kind::job) {
      if (redis_->meta.owner == broker.owner) ledger_.said(fact);
      continue;
    }
    trace("broker ",
          index,
          " fact ",
          static_cast<int>(fact.kind),
          " ",
          fact.what,
          " ",
          fact.id,
          " ",
          fact.text);
    if (fact.kind == EngineFact::Kind::store_lost) coverage_.hit(Sometimes::store_down);
    if (fact.kind != EngineFact::Kind::store_rolled_back) continue;
    coverage_.hit(Sometimes::rewritten);
    if (index == risk_owner_) see_rewrite(broker);
  }
  const std::uint64_t replayed = broker.engine->pipeline().replayed_missing();
  coverage_.hit(Sometimes::replayed, replayed - std::exchange(broker.replayed, replayed));
}

// The ring is through, and memory is written whole. What neither has had time to be let go of.
// (What was there before the broker started was never in its ring.)
void World::see_rewrite(const BrokerProcess& broker) {
  std::vector<JobId> gone;
  for (const auto& [id, durable] : ledger_.at_risk())
    if (!broker.engine->core().jobs().find(id)) gone.push_back(id);
  for (const JobId& id : gone) {
    const std::int64_t whole_ms = ledger_.at_risk().at(id).whole_ms;
    const std::int64_t age_ms = now_ms_ - whole_ms;
    REQUIRE(age_ms > CommitPipeline::kRingMs || whole_ms <= broker.started_ms,
            "no_accepted_job_lost",
            "in the log " + std::to_string(age_ms) + " ms before, and not put back: " + id.str());
    ledger_.excuse(id);
  }
}

// ---------------------------------------------------------------- what it says

void World::speak(std::uint32_t index, const Frame& frame) {
  mix(frame.bytes);
  ledger_.set_speaks_for_owner(redis_->meta.owner == brokers_[index].owner);
  if (frame.channel == Channel::watchers) return;
  const auto conn = static_cast<std::uint32_t>(std::stoul(frame.peer.routing_id.substr(1)));
  const std::uint32_t client = conns_[conn].client;
  if (frame.channel == Channel::workers) {
    const auto message = decode_broker_message(frame.bytes);
    REQUIRE(message.has_value(), "every_request_answered", "a frame that does not decode");
    ledger_.said(nodes_[client - kNodeClients].id, *message);
  } else {
    const auto reply = decode_reply(frame.bytes);
    REQUIRE(reply.has_value(), "every_request_answered", "a frame that does not decode");
    const auto req = req_number(reply->req);
    const auto asked = req ? asked_.find(*req) : asked_.end();
    REQUIRE(asked != asked_.end(), "every_request_answered", "an answer to nobody");
    const auto* submitted = std::get_if<Submitted>(&reply->body);
    const bool is_closing = !std::holds_alternative<Finished>(reply->body) &&
                            (submitted == nullptr || !submitted->open);
    REQUIRE(!asked->second.is_closed, "every_request_answered", "a second answer");
    asked->second.is_closed = is_closing;
    ledger_.said(*reply, asked->second.request, *req, next_req_);
    if (const auto* workers = std::get_if<WorkersInfo>(&reply->body)) said_workers(*workers);
  }
  send(conn, false, frame.bytes);
}

// ---------------------------------------------------------------- its connection to Redis

void World::ask_store(std::uint32_t index, StoreRequest request) {
  BrokerProcess& broker = brokers_[index];
  if (!broker.store->is_connected()) return;
  broker.store->send(std::move(request));
  const std::int64_t takes_ms =
      redis_slow_until_ms_ > now_ms_ ? rng_.range(200, 4000) : rng_.range(0, 2);
  broker.store_free_ms = std::max(broker.store_free_ms, now_ms_ + takes_ms);
  at(broker.store_free_ms, What::store_execute, index, broker.connection);
}

void World::execute(std::uint32_t index, std::uint64_t connection) {
  BrokerProcess& broker = brokers_[index];
  if (!broker.store || !broker.store->is_connected() || broker.connection != connection) return;
  if (broker.store->held_count() == 0 || !is_redis_up_) return;
  ++events_;
  const StoreMeta before = redis_->meta;
  const bool loses_reply = broker.is_alive && rng_.chance(reply_loss_);
  broker.store->execute(loses_reply);
  if (!broker.is_alive) coverage_.hit(Sometimes::orphan_commit);
  see_commits(before, broker.is_alive);
  if (loses_reply) {
    coverage_.hit(Fault::redis_reply_lost);
    return disconnect_store(index, rng_.about(100));
  }
  if (broker.is_alive) plan_broker(index, now_ms_ + rng_.range(0, 1));
}

void World::see_owner(const StoreMeta& before, bool is_taker_alive) {
  const StoreMeta& meta = redis_->meta;
  trace("redis taken by ",
        meta.owner,
        ", epoch ",
        meta.epoch,
        ", last ",
        meta.last,
        ", checkpoint ",
        meta.checkpoint);
  // Nobody speaks under an epoch that a dead broker's last request took from an emptied Redis.
  if (is_taker_alive) ledger_.took_over(meta.epoch, meta.owner);
  // Taken by one that slept through its successor: that one, which had it, is fenced.
  if (risk_owner_ != kNone && meta.owner != brokers_[risk_owner_].owner)
    ledger_.excuse_all_at_risk();
  const bool is_taken_back =
      before.exists && std::stoul(meta.owner.substr(1)) < std::stoul(before.owner.substr(1));
  if (!is_taken_back) return;
  // By the epochs it was replaced before its time: README.md, Open.
  REQUIRE(has_clock_jumped_, "fenced_owner", meta.owner + " takes the state from " + before.owner);
  ledger_.excuse_all();
}

void World::see_commits(const StoreMeta& before, bool is_taker_alive) {
  if (redis_->meta.epoch != before.epoch) see_owner(before, is_taker_alive);
  for (std::uint64_t n = before.last + 1; n <= redis_->meta.last; ++n) {
    const auto entry = redis_->log.find(n);
    if (entry == redis_->log.end()) continue;  // numbers that were jumped over
    mix(entry->second->blob);
    const auto decoded = decode_entry(entry->second->blob);
    REQUIRE(decoded.has_value(), "no_accepted_job_lost", "an entry that does not decode");
    if (options_.verbose) trace_batch(n, *decoded);
    ledger_.committed(*decoded, now_ms_);
  }
}

void World::trace_batch(std::uint64_t n, const DecodedEntry& entry) const {
  std::string line;
  for (const ViewRow& row : entry.jobs)
    line += " " + row.job.id().str() + (row.has_payload ? " whole " : " ") +
            std::string(to_string(row.job.state));
  for (const JobId& id : entry.removed)
    line += " " + id.str() + " removed";
  trace("redis log ", n, line);
}

void World::disconnect_store(std::uint32_t index, std::int64_t back_after_ms) {
  BrokerProcess& broker = brokers_[index];
  if (!broker.store || !broker.store->is_connected()) return;
  broker.store->disconnect("gone");
  ++broker.connection;
  broker.store_free_ms = now_ms_;
  if (!broker.is_alive) return;
  plan_broker(index, now_ms_ + 1);
  at(now_ms_ + back_after_ms, What::redis_back);
}

void World::connect_stores() {
  if (!is_redis_up_) return;
  for (std::uint32_t i = 0; i < brokers_.size(); ++i) {
    BrokerProcess& broker = brokers_[i];
    if (!broker.is_alive || broker.store->is_connected()) continue;
    broker.store->connect();
    broker.store_free_ms = now_ms_;
    plan_broker(i, now_ms_ + 1);
  }
}

// Redis is back without its newest batches, or empty. The broker that owns the state can put back
// what its ring or its memory still has; nobody can put back the rest.
void World::redis_lost_data(const Ledger::Truth& older, std::uint64_t older_last) {
  const std::string owner = redis_->meta.owner;
  has_lost_data_ = true;
  trace("redis goes from ", redis_->meta.last, " back to ", older_last, ", owner ", owner);
  ledger_.rolled_back(older);
  risk_owner_ = kNone;
  for (std::uint32_t i = 0; i < brokers_.size(); ++i)
    if (brokers_[i].is_alive && brokers_[i].owner == owner) risk_owner_ = i;
  if (risk_owner_ == kNone) return ledger_.excuse_all_at_risk();
  const Engine& engine = *brokers_[risk_owner_].engine;
  if (engine.pipeline().entries_after(older_last)) return;
  std::vector<JobId> lost;
  for (const auto& [id, durable] : ledger_.at_risk())
    if (durable.is_removed || !engine.core().jobs().find(id)) lost.push_back(id);
  for (const JobId& id : lost)
    ledger_.excuse(id);
}

}  // namespace sluice::sim
