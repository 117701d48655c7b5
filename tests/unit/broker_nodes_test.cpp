#include <gtest/gtest.h>

#include "broker/core/nodes.h"

namespace sluice::broker_nodes_test {
namespace {

std::vector<std::string> used_ids(const Nodes& nodes) {
  std::vector<std::string> ids;
  for (const NodeIndex index : nodes.used())
    ids.push_back(nodes.at(index).id);
  return ids;
}

TEST(Nodes, a_node_offers_its_tasks_in_its_queues_or_in_all) {
  Node any;
  any.tasks = {"resize", "mail"};
  EXPECT_TRUE(any.offers("mail", "default"));
  EXPECT_FALSE(any.offers("mai", "default"));
  Node picky = any;
  picky.queues = {"bulk", "night"};
  EXPECT_TRUE(picky.offers("resize", "night"));
  EXPECT_FALSE(picky.offers("resize", "default"));
  EXPECT_FALSE(picky.offers("bulk", "bulk")) << "a queue is no task";
  EXPECT_FALSE(Node{}.offers("mail", "default")) << "without a task there is nothing to offer";
}

TEST(Nodes, strays_take_slots_too_and_none_are_free_of_a_full_or_draining_node) {
  Node node;
  node.concurrency = 4;
  node.attempts = {7, 8};
  node.strays = 1;
  EXPECT_EQ(node.busy(), 3U);
  EXPECT_EQ(node.free(), 1U);
  node.is_draining = true;
  EXPECT_EQ(node.free(), 0U);
  node.is_draining = false;
  node.concurrency = 3;
  EXPECT_EQ(node.free(), 0U);
  node.concurrency = 1;
  EXPECT_EQ(node.free(), 0U) << "it holds more than it is allowed by now";
}

TEST(Nodes, the_name_is_the_id_without_its_life) {
  Node node;
  node.id = "gpu-1@9f2c41aa";
  EXPECT_EQ(node.name(), "gpu-1");
}

TEST(Nodes, a_freed_place_is_used_again_and_has_nothing_of_the_node_before) {
  Nodes nodes;
  const NodeIndex index = nodes.add("a@1");
  Node& before = nodes.at(index);
  before.attempts = {1};
  before.runs = {1};
  before.tasks = {"t"};
  before.concurrency = 9;
  before.is_draining = before.wants_repeat = true;
  nodes.touch(index);
  nodes.remove(index);
  EXPECT_TRUE(nodes.touched().empty()) << "nothing is owed to a node that is gone";
  EXPECT_EQ(nodes.find("a@1"), std::nullopt);
  EXPECT_EQ(nodes.add("b@1"), index);
  const Node& after = nodes.at(index);
  EXPECT_EQ(after.id, "b@1");
  EXPECT_TRUE(after.is_used);
  EXPECT_TRUE(after.attempts.empty() && after.runs.empty() && after.tasks.empty());
  EXPECT_FALSE(after.is_draining || after.wants_repeat || after.is_touched);
  EXPECT_EQ(after.concurrency, 1U);
  nodes.touch(index);
  EXPECT_EQ(nodes.touched(), std::vector<NodeIndex>{index});
}

TEST(Nodes, used_ones_stand_in_the_order_of_their_joining) {
  Nodes nodes;
  for (const char* id : {"a@1", "b@1", "c@1"})
    (void)nodes.add(id);
  nodes.remove(*nodes.find("a@1"));
  (void)nodes.add("d@1");
  EXPECT_EQ(used_ids(nodes), (std::vector<std::string>{"b@1", "c@1", "d@1"}));
  for (const char* id : {"b@1", "c@1", "d@1"})
    EXPECT_EQ(nodes.at(nodes.find(id).value()).id, id);
}

TEST(Nodes, a_life_of_a_node_is_a_node_of_its_own) {
  Nodes nodes;
  const NodeIndex first = nodes.add("a@1");
  const NodeIndex second = nodes.add("a@2");
  EXPECT_NE(first, second);
  nodes.remove(first);
  EXPECT_EQ(nodes.find("a@2"), second);
  EXPECT_EQ(nodes.find("a"), std::nullopt) << "a name is no id";
}

TEST(Nodes, a_touched_node_is_noted_once_a_turn) {
  Nodes nodes;
  const NodeIndex a = nodes.add("a@1");
  const NodeIndex b = nodes.add("b@1");
  for (const NodeIndex index : {b, a, b})
    nodes.touch(index);
  EXPECT_EQ(nodes.touched(), (std::vector<NodeIndex>{b, a}));
}

TEST(Nodes, whoever_remembers_fitting_nodes_sees_that_they_changed) {
  Nodes nodes;
  std::uint64_t seen = nodes.version();
  const auto has_grown = [&] {
    return nodes.version() > std::exchange(seen, nodes.version());
  };
  const NodeIndex index = nodes.add("a@1");
  EXPECT_TRUE(has_grown());
  nodes.touch(index);
  EXPECT_FALSE(has_grown()) << "that it is owed something changes nothing of what it offers";
  nodes.changed();
  EXPECT_TRUE(has_grown());
  nodes.remove(index);
  EXPECT_TRUE(has_grown());
}

}  // namespace
}  // namespace sluice::broker_nodes_test
