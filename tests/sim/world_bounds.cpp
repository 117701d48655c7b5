// memory_bounded: what a broker keeps stays within what it was told, after every event that it
// takes in and after every turn.
#include <algorithm>
#include <utility>

#include "tests/sim/world.h"

namespace sluice::sim {

namespace {

// Room for a few jobs, so that it is used up now and then.
constexpr std::int64_t kSmallestMemory = 10'000;
constexpr std::int64_t kSmallMemory = 60'000;

}  // namespace

// Of its own numbers, so that the rest of a seed's run stays what it was. With a clock that jumps
// by years there are jobs that do not end within a run, and so a memory that is never free again.
void World::draw_memory() {
  Rng rng(~options_.seed);
  const bool has_jumps =
      std::find(faults_.begin(), faults_.end(), Fault::wall_clock_jump) != faults_.end();
  if (has_jumps || !rng.chance(0.1)) return;
  config_.core.memory_max_bytes =
      static_cast<std::uint64_t>(rng.range(kSmallestMemory, kSmallMemory));
}

// Before one event is handed to the broker, and after it.
World::Admission World::admission(const BrokerProcess& broker) {
  const BrokerCore& core = broker.engine->core();
  return {core.counters().accepted, core.jobs().memory_bytes()};
}

void World::check_admission(const BrokerProcess& broker, const Admission& before) const {
  const Admission after = admission(broker);
  REQUIRE(after.accepted == before.accepted || before.bytes < config_.core.memory_max_bytes,
          "memory_bounded",
          "a job is taken in with " + std::to_string(before.bytes) + " of " +
              std::to_string(config_.core.memory_max_bytes) + " bytes used");
}

void World::check_bounds(BrokerProcess& broker, Now now) const {
  if (broker.engine->is_fenced()) return;  // it says and sends nothing any more
  const CommitPipeline& pipeline = broker.engine->pipeline();
  const BrokerCore& core = broker.engine->core();
  const std::uint64_t unconfirmed = pipeline.next_n() - 1 - pipeline.confirmed();
  REQUIRE(unconfirmed <= CommitPipeline::kInFlightMax,
          "memory_bounded",
          std::to_string(unconfirmed) + " batches are on their way");
  // A batch that is confirmed makes the ring forget what is too old. (A resync needs it as it is.)
  const bool is_resynced = core.epoch() != std::exchange(broker.epoch, core.epoch());
  const bool is_trimmed =
      pipeline.confirmed() > std::exchange(broker.confirmed, pipeline.confirmed()) &&
      !is_resynced && !core.is_store_down();
  REQUIRE(!is_trimmed || pipeline.ring_covers_ms(now) <= CommitPipeline::kRingMs,
          "memory_bounded",
          "the ring goes back by " + std::to_string(pipeline.ring_covers_ms(now)) + " ms");
  for (const NodeIndex index : core.nodes().used()) {
    const Node& node = core.nodes().at(index);
    REQUIRE(node.acks.empty() && node.drops.empty() && node.cancels.empty() &&
                node.wishes.empty() && node.runs.empty(),
            "memory_bounded",
            "a turn keeps what it owes to " + node.id);
  }
}

// At rest nothing is left of what has ended but its place in the memory of ended ids.
void World::check_rest_is_small() const {
  const std::uint32_t newest = listening();
  if (newest == kNone) return;
  std::size_t live = 0;
  for (const auto& [id, durable] : ledger_.truth())
    live += durable.is_live() ? 1 : 0;
  const std::size_t held = brokers_[newest].engine->core().jobs().size();
  REQUIRE(held <= live,
          "memory_bounded",
          std::to_string(held) + " jobs in memory, of which " + std::to_string(live) + " live");
}

}  // namespace sluice::sim
