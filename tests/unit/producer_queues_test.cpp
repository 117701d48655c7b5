// `sluice queues`, `pause`, `resume` and `purge`.
#include <string>
#include <variant>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/cli.h"
#include "tests/support/cli.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_queues_test {
namespace {

using test::Ended;
using test::ScriptedBroker;
using test::sluice;
using testing::ContainsRegex;
using testing::HasSubstr;
using Bodies = std::vector<ReplyBody>;

QueueInfo mail() {
  return {.queue = "mail",
          .paused = true,
          .pending = 1,
          .queued = 2,
          .running = 3,
          .completed = 4,
          .failed = 5,
          .cancelled = 6,
          .submitted = 7,
          .retried = 8,
          .lost = 9,
          .oldest_queued_ms = 61'000,
          .completed_per_s = 1.25};
}

QueueInfo web() {
  QueueInfo queue;
  queue.queue = "web";
  queue.oldest_queued_ms = 5;  // of a job that is not queued any more
  return queue;
}

// Knows these queues, and does what it is asked.
Bodies obey(const std::vector<QueueInfo>& queues, const RequestBody& body) {
  if (std::holds_alternative<Queues>(body)) return {QueuesInfo{queues}};
  if (std::holds_alternative<Pause>(body)) return {Done{"paused", 0}};
  if (std::holds_alternative<Resume>(body)) return {Done{"resumed", 0}};
  return {Done{"purged", 3}};
}

Ended ask_about(std::vector<std::string> arguments, const std::vector<QueueInfo>& queues) {
  const ScriptedBroker broker([&](const RequestBody& body) { return obey(queues, body); });
  arguments.insert(arguments.end(), {"--broker", broker.address()});
  return sluice(arguments);
}

TEST(CliQueues, a_queue_shows_its_depth_its_totals_and_whether_it_is_paused) {
  const Ended ended = ask_about({"queues"}, {mail(), web()});
  EXPECT_EQ(ended.code, kExitOk);
  EXPECT_THAT(
      ended.out,
      ContainsRegex("queue +pending +queued +running +completed +failed +cancelled +retried "
                    "+lost +done/s +oldest waits\n"));
  EXPECT_THAT(ended.out,
              ContainsRegex("mail +1 +2 +3 +4 +5 +6 +8 +9 +1.[23] +1 min 1 s +paused\n"));
  EXPECT_THAT(ended.out, ContainsRegex("web +0 +0 +0 +0 +0 +0 +0 +0 +0.0 +-\n")) << "nothing waits";
}

TEST(CliQueues, a_queue_as_json_has_every_figure) {
  EXPECT_EQ(ask_about({"queues", "--json"}, {mail()}).out,
            R"({"queues":[{"queue":"mail","paused":true,"pending":1,"queued":2,"running":3,)"
            R"("completed":4,"failed":5,"cancelled":6,"submitted":7,"retried":8,"lost":9,)"
            R"("oldest_queued_ms":61000,"completed_per_s":1.25}]})"
            "\n");
}

TEST(CliQueues, of_none_is_no_failure) {
  const Ended text = ask_about({"queues"}, {});
  EXPECT_EQ(text.code, kExitOk);
  EXPECT_EQ(text.out, "no queue yet: submit a job\n");
  EXPECT_EQ(ask_about({"queues", "--json"}, {}).out, "{\"queues\":[]}\n");
}

TEST(CliQueues, what_was_done_to_a_queue_is_told_with_its_name) {
  EXPECT_EQ(ask_about({"pause", "mail"}, {mail()}).out, "mail: paused\n");
  EXPECT_EQ(ask_about({"resume", "mail"}, {mail()}).out, "mail: resumed\n");
  EXPECT_EQ(ask_about({"purge", "mail"}, {mail()}).out, "mail: 3 waiting jobs cancelled\n");
  EXPECT_EQ(ask_about({"purge", "mail", "--json"}, {mail()}).out,
            "{\"queue\":\"mail\",\"done\":\"purged\",\"count\":3}\n");
}

TEST(CliQueues, a_pause_of_a_queue_that_nobody_knows_is_done_and_told) {
  EXPECT_EQ(ask_about({"pause", "mail"}, {mail()}).err, "");
  const Ended strange = ask_about({"pause", "maill"}, {mail(), web()});
  EXPECT_EQ(strange.code, kExitOk);
  EXPECT_EQ(strange.out, "maill: paused\n");
  EXPECT_THAT(strange.err, HasSubstr("no job was ever in 'maill'"));
  EXPECT_THAT(strange.err, HasSubstr("Queues: mail, web\n"));
  EXPECT_THAT(ask_about({"pause", "x"}, {}).err, HasSubstr("Queues: none\n"));
  const Ended json = ask_about({"pause", "x", "--json"}, {});
  EXPECT_EQ(json.out, "{\"queue\":\"x\",\"done\":\"paused\",\"count\":0}\n");
  EXPECT_TRUE(Json::parse(json.err).contains("warning"));
}

TEST(CliQueues, a_pause_that_is_refused_says_nothing_of_the_queue) {
  const ScriptedBroker broker([](const RequestBody& body) -> Bodies {
    if (std::holds_alternative<Queues>(body)) return {QueuesInfo{}};
    return {ErrorReply{{ErrorCode::bad_field, "queue", "too many queues"}, false, {}}};
  });
  const Ended ended = sluice({"pause", "mail", "--broker", broker.address()});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_EQ(ended.out, "");
  EXPECT_EQ(ended.err, "sluice: queue: too many queues\n");
}

TEST(CliQueues, the_queue_is_the_one_that_was_named) {
  std::vector<std::string> asked;
  const ScriptedBroker broker([&](const RequestBody& body) -> Bodies {
    if (const auto* resume = std::get_if<Resume>(&body)) asked.push_back("resume " + resume->queue);
    if (const auto* purge = std::get_if<Purge>(&body)) asked.push_back("purge " + purge->queue);
    if (const auto* pause = std::get_if<Pause>(&body)) asked.push_back("pause " + pause->queue);
    return obey({}, body);
  });
  for (const char* command : {"pause", "resume", "purge"})
    EXPECT_EQ(sluice({command, "mail", "--broker", broker.address()}).code, kExitOk);
  EXPECT_THAT(asked, testing::ElementsAre("pause mail", "resume mail", "purge mail"));
}

}  // namespace
}  // namespace sluice::cli::producer_queues_test
