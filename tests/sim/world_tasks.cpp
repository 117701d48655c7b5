// The task tables of the nodes, which are read again at drawn times (SIGHUP): a task goes, one
// comes, bounds change. What was on its way when a task went is handed back; what runs goes on as
// it began. dealt_where_offered: what a node offers is what it runs, and what the broker goes by.
// figures_told: what a node says of its isolates is what the broker has and tells.
#include <algorithm>

#include "tests/sim/world.h"

namespace sluice::sim {

namespace {

constexpr std::int64_t kReadEveryMs = 3000;

constexpr const char* kFiguresTold = "figures_told";

bool contains(const std::vector<std::string>& tasks, const std::string& task) {
  return std::find(tasks.begin(), tasks.end(), task) != tasks.end();
}

}  // namespace

void World::plan_reading(std::uint32_t index) {
  at(now_ms_ + tasks_rng_.about(kReadEveryMs), What::node_reads_tasks, index);
}

void World::node_reads_tasks(std::uint32_t index) {
  NodeLife& life = nodes_[index];
  if (!life.is_alive) return;
  const Machine& machine = machines_[life.machine];
  life.tasks = is_healed_ ? machine.tasks : draw_tasks(life);
  life.pools.push_back(draw_pool(machine, tasks_rng_));
  coverage_.hit(Sometimes::tasks_read_again);
  trace("node ", life.id, " offers ", life.tasks.front(), life.tasks.size() > 1 ? " and more" : "");
  node_event(index, TasksChanged{life.tasks});
  if (!is_healed_) plan_reading(index);
}

// One more, one less, or another one.
std::vector<std::string> World::draw_tasks(const NodeLife& life) {
  const std::string task = tasks_rng_.chance(0.5) ? "a" : "b";
  if (!contains(life.tasks, task))
    return tasks_rng_.chance(0.5) ? std::vector<std::string>{task}
                                  : std::vector<std::string>{"a", "b"};
  return {task == "a" ? "b" : "a"};
}

// What it hands back without a drain and without having run it is of a task that it withdrew.
void World::see_hand_backs(const NodeLife& life, const Results& results) {
  if (life.core->is_draining()) return;
  for (const AttemptResult& result : results.results) {
    if (result.outcome != Outcome::handed_back) continue;
    const AttemptKey key{result.id, result.fence};
    const bool has_run = std::any_of(life.attempts.begin(),
                                     life.attempts.end(),
                                     [&](const Attempt& attempt) { return attempt.key == key; });
    if (!has_run) coverage_.hit(Sometimes::withdrawn);
  }
}

void World::check_offered(const NodeLife& life, const RunJob& job) const {
  REQUIRE(
      contains(life.tasks, job.task),
      "dealt_where_offered",
      job.id.str() + " begins on " + life.id + ", which does not offer " + job.task + " any more");
}

// Those of its newest table, as the shell of a real node adds them.
void World::add_figures(NodeLife& life, Status& status) {
  const Pool& pool = life.pools.back();
  if (pool.has_isolates()) {
    const IsolateFigures now = pool.figures();
    REQUIRE(now.busy <= now.total && now.total <= pool.isolates_max() &&
                (now.waiting == 0 || now.busy == pool.isolates_max()),
            kFiguresTold,
            life.id + " has " + std::to_string(now.busy) + " busy of " + std::to_string(now.total) +
                " isolates, at most " + std::to_string(pool.isolates_max()) + ", while " +
                std::to_string(now.waiting) + " jobs wait");
    status.isolates = {now};
  }
  life.offers.push_back({status.tasks, status.isolates});
}

// The broker goes by the newest status of a node that it has taken.
void World::check_nodes(const BrokerProcess& broker) const {
  const BrokerCore& core = broker.engine->core();
  for (const NodeIndex index : core.nodes().used()) {
    const Node& node = core.nodes().at(index);
    const NodeLife& life = nodes_[node_of_.at(node.id)];
    const Offer& offer = life.offers.at(node.status_seq - 1);
    REQUIRE(node.tasks == offer.tasks,
            "dealt_where_offered",
            "the broker's " + node.id + " does not offer what its status " +
                std::to_string(node.status_seq) + " said");
    REQUIRE(node.isolates == offer.isolates,
            kFiguresTold,
            "the broker's " + node.id + " has not the isolates that its status " +
                std::to_string(node.status_seq) + " said");
  }
}

// By its newest status, or by one before that came in the turn of the question.
void World::said_workers(const WorkersInfo& said) const {
  for (const NodeInfo& row : said.workers) {
    const std::vector<Offer>& offers = nodes_[node_of_.at(row.node)].offers;
    REQUIRE(std::any_of(offers.begin(),
                        offers.end(),
                        [&](const Offer& offer) {
                          return offer.tasks == row.tasks && offer.isolates == row.isolates;
                        }),
            kFiguresTold,
            "somebody was told of " + row.node + " what it did not say");
  }
}

}  // namespace sluice::sim
