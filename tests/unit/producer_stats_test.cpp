// `sluice stats` and `ping`.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/cli.h"
#include "tests/support/cli.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_stats_test {
namespace {

using test::Ended;
using test::ScriptedBroker;
using test::sluice;
using testing::ContainsRegex;
using testing::HasSubstr;
using Bodies = std::vector<ReplyBody>;

// What the command says when the broker answers so.
Ended ask(const std::vector<std::string>& command, const ReplyBody& answer) {
  const ScriptedBroker broker([&](const RequestBody&) { return Bodies{answer}; });
  std::vector<std::string> arguments = command;
  arguments.insert(arguments.end(), {"--broker", broker.address()});
  return sluice(arguments);
}

TEST(CliStats, figures_are_a_table_and_as_json_one_object) {
  const StatsInfo stats{{{"failed", 5}, {"jobs_bytes", UINT64_MAX}}, {{"store", "ok\x1b[2J"}}};
  const Ended text = ask({"stats"}, stats);
  EXPECT_EQ(text.code, kExitOk);
  EXPECT_THAT(text.out, ContainsRegex("figure +value\n"));
  EXPECT_THAT(text.out, ContainsRegex("store +ok\\\\x1b\\[2J\n"));
  EXPECT_THAT(text.out, ContainsRegex("failed +5\n"));
  EXPECT_EQ(ask({"stats", "--json"}, stats).out,
            R"({"store":"ok\u001b[2J","failed":5,"jobs_bytes":18446744073709551615})"
            "\n");
  EXPECT_EQ(ask({"stats", "--json"}, StatsInfo{}).out, "{}\n");
}

TEST(CliStats, a_refusal_is_told_and_nothing_else) {
  const Ended ended =
      ask({"stats", "--json"}, ErrorReply{{ErrorCode::denied, "", "not for you"}, false, {}});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_EQ(ended.out, "");
  EXPECT_EQ(ended.err,
            R"({"error":{"code":"denied","field":"","message":"not for you","retryable":false}})"
            "\n");
}

TEST(CliStats, ping_says_where_the_broker_is_and_how_durable) {
  const Pong pong{"9.8.7", 1, 42, Durability::always, "ok", true};
  const Ended text = ask({"ping"}, pong);
  EXPECT_EQ(text.code, kExitOk);
  EXPECT_THAT(text.out,
              ContainsRegex("broker 9.8.7 at tcp://127.0.0.1:[0-9]+: store ok, durable always, "
                            "epoch 42, answered in "));
  const Json json = Json::parse(ask({"ping", "--json"}, pong).out);
  EXPECT_THAT(json["broker"].get<std::string>(), HasSubstr("tcp://127.0.0.1:"));
  EXPECT_EQ(json["version"], "9.8.7");
  EXPECT_EQ(json["protocol"], 1);
  EXPECT_EQ(json["epoch"], 42);
  EXPECT_EQ(json["durable"], "always");
  EXPECT_EQ(json["store"], "ok");
  EXPECT_EQ(json["insecure"], true);
  EXPECT_TRUE(json["took_ms"].is_number_unsigned() || json["took_ms"].is_number_integer());
}

TEST(CliStats, ping_is_1_when_the_broker_is_there_and_its_store_is_not) {
  for (const auto& [store, code] :
       {std::pair("ok", kExitOk), {"busy", kExitOk}, {"down", kExitFailed}}) {
    const Pong pong{"1", 1, 1, Durability::everysec, store, false};
    const Ended text = ask({"ping"}, pong);
    EXPECT_EQ(text.code, code) << store;
    EXPECT_EQ(text.err.empty(), code == kExitOk) << text.err;
    const Ended json = ask({"ping", "--json"}, pong);
    EXPECT_EQ(json.code, code) << store;
    EXPECT_EQ(json.err, "") << "the JSON says it";
  }
}

// A broker of another version may answer otherwise: that is a failure, not a crash.
TEST(CliStats, an_answer_of_another_kind_is_1) {
  const Ended ended = ask({"ping"}, Done{"purged", 1});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_EQ(ended.out, "");
  EXPECT_FALSE(ended.err.empty());
}

}  // namespace
}  // namespace sluice::cli::producer_stats_test
