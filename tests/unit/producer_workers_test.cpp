// What producer_cli_test.cpp leaves open of `sluice workers` and `drain`.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/cli.h"
#include "tests/support/cli.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_workers_test {
namespace {

using test::Ended;
using test::ScriptedBroker;
using test::sluice;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using Bodies = std::vector<ReplyBody>;

NodeInfo busy_node() {
  return {.node = "n1@ab",
          .concurrency = 8,
          .running = 3,
          .free = 5,
          .tasks = {"a", "b"},
          .queues = {"mail", "web"},
          .labels = {{"zone", "eu"}},
          .draining = true,
          .version = "0.1.0",
          .last_seen_ms = 1'500,
          .completed = 10,
          .failed = 2,
          .isolates = {}};
}

TEST(CliWorkers, of_none_is_no_failure_and_says_how_to_start_one) {
  const ScriptedBroker broker([](const RequestBody&) { return Bodies{WorkersInfo{}}; });
  const Ended text = sluice({"workers", "--broker", broker.address()});
  EXPECT_EQ(text.code, kExitOk);
  EXPECT_EQ(text.out, "no worker is connected: start one with `sluice-worker`\n");
  EXPECT_EQ(sluice({"workers", "--json", "--broker", broker.address()}).out, "{\"workers\":[]}\n");
}

TEST(CliWorkers, a_node_shows_its_slots_and_what_it_offers) {
  NodeInfo plain;
  plain.node = "n2@cd";
  const ScriptedBroker broker([&](const RequestBody&) {
    return Bodies{WorkersInfo{{busy_node(), plain}}};
  });
  const std::string out = sluice({"workers", "--broker", broker.address()}).out;
  EXPECT_THAT(out, ContainsRegex("node +running +slots +completed +failed +heard +tasks +queues"));
  EXPECT_THAT(out, ContainsRegex("n1@ab +3 +8 +10 +2 +1.5 s ago +a,b +mail,web +draining\n"));
  EXPECT_THAT(out, ContainsRegex("n2@cd +0 +0 +0 +0 +0 ms ago +all\n"));
  EXPECT_THAT(out, Not(HasSubstr("isolates"))) << "nobody has any";
}

TEST(CliWorkers, a_node_as_json_has_every_figure) {
  const ScriptedBroker broker(
      [](const RequestBody&) { return Bodies{WorkersInfo{{busy_node()}}}; });
  const Ended json = sluice({"workers", "--json", "--broker", broker.address()});
  EXPECT_EQ(json.out,
            R"({"workers":[{"node":"n1@ab","concurrency":8,"running":3,"free":5,)"
            R"("tasks":["a","b"],"queues":["mail","web"],"labels":{"zone":"eu"},"draining":true,)"
            R"("version":"0.1.0","last_seen_ms":1500,"completed":10,"failed":2,"isolates":[]}]})"
            "\n");
}

TEST(CliWorkers, more_isolates_at_work_than_there_are_leave_none_available) {
  NodeInfo node = busy_node();
  node.isolates = {{.task = "a", .total = 2, .busy = 3}};  // recycled meanwhile
  const ScriptedBroker broker([&](const RequestBody&) { return Bodies{WorkersInfo{{node}}}; });
  const Json json = Json::parse(sluice({"workers", "--json", "--broker", broker.address()}).out);
  EXPECT_EQ(json["workers"][0]["isolates"][0]["available"], 0);
}

TEST(CliWorkers, drain_asks_for_the_node_that_was_named) {
  std::string asked;
  const ScriptedBroker broker([&](const RequestBody& body) {
    asked = std::get<Drain>(body).node;
    return Bodies{Done{"asked", 0}};
  });
  const Ended text = sluice({"drain", "n1@ab", "--broker", broker.address()});
  EXPECT_EQ(text.code, kExitOk);
  EXPECT_EQ(asked, "n1@ab");
  EXPECT_THAT(text.out, testing::StartsWith("n1@ab: asked to drain"));
  EXPECT_EQ(sluice({"drain", "n1", "--json", "--broker", broker.address()}).out,
            "{\"node\":\"n1\",\"done\":\"asked\"}\n");
}

TEST(CliWorkers, a_node_that_is_not_there_is_4_and_one_name_of_two_is_1) {
  ErrorCode code = ErrorCode::not_found;
  const ScriptedBroker broker([&](const RequestBody&) {
    return Bodies{ErrorReply{{code, "node", "no"}, false, {}}};
  });
  const Ended none = sluice({"drain", "n1", "--broker", broker.address()});
  EXPECT_EQ(none.code, kExitNotFound);
  EXPECT_EQ(none.err, "sluice: node: no\n");
  EXPECT_EQ(none.out, "");
  code = ErrorCode::conflict;
  EXPECT_EQ(sluice({"drain", "n1", "--broker", broker.address()}).code, kExitFailed);
  EXPECT_EQ(sluice({"drain", "a b", "--broker", broker.address()}).code, kExitFailed)
      << "what the codec refuses";
}

}  // namespace
}  // namespace sluice::cli::producer_workers_test
