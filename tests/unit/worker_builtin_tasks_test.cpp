#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/builtin_tasks.h"

namespace sluice::worker_builtin_tasks_test {
namespace {

// Its checkpoints are recorded at once.
struct Unheard : Task::State {
  explicit Unheard(RunJob run_job) : State(std::move(run_job), kNever) {}

  void tell(AttemptProgress progress) override {
    if (progress.checkpoint) checkpoints += *progress.checkpoint + " ";
    answer(progress.awaited_n, true);
  }

  std::string checkpoints;
};

RunJob job_with(std::string payload) {
  RunJob job;
  job.payload = std::move(payload);
  job.content_type = "application/json";
  return job;
}

TaskOutcome outcome_of(const TaskHandler& handler, std::string payload, bool is_stopped = false) {
  const auto state = std::make_shared<Unheard>(job_with(std::move(payload)));
  if (is_stopped) state->stop.request_stop();
  Task task(state);
  return call_handler(handler, task);
}

TaskOutcome outcome_of(const std::string& name, std::string payload, bool is_stopped = false) {
  return outcome_of(builtin_handlers().at(name), std::move(payload), is_stopped);
}

TEST(BuiltinTasks, those_that_are_listed_are_those_that_there_are) {
  const Handlers handlers = builtin_handlers();
  EXPECT_EQ(handlers.size(), kBuiltinTasks.size());
  for (const std::string_view name : kBuiltinTasks)
    EXPECT_TRUE(handlers.contains(name)) << name;
}

TEST(BuiltinTasks, echo_gives_back_any_bytes_and_noop_nothing) {
  const std::string bytes("\xff\0{", 3);
  EXPECT_TRUE(outcome_of("echo", bytes).is_completed);
  EXPECT_EQ(outcome_of("echo", bytes).result, bytes);
  EXPECT_TRUE(outcome_of("noop", bytes).is_completed);
  EXPECT_EQ(outcome_of("noop", bytes).result, "");
}

TEST(BuiltinTasks, crash_refuses_what_it_does_not_understand) {
  const TaskHandler crash = crashing_handlers().at("crash");
  for (const char* payload : {"now",
                              "[]",
                              R"({"signal":"SIGCHLD"})",
                              R"({"signal":11})",
                              R"({"attempts":-1})",
                              R"({"attempts":"2"})"}) {
    const TaskOutcome outcome = outcome_of(crash, payload);
    EXPECT_EQ(outcome.error_code, "bad_payload") << payload;
    EXPECT_FALSE(outcome.retryable) << payload;
  }
}

TEST(BuiltinTasks, sleep_takes_a_number_or_a_map_with_it_and_nothing_else) {
  for (const char* payload : {"0", R"({"ms":0})", "-5", R"({"ms":-5,"more":1})"})
    EXPECT_TRUE(outcome_of("sleep", payload).is_completed) << payload;
  for (const char* payload : {"", "soon", "\"0\"", "0.5", "[0]", "{}", R"({"ms":"0"})", "null"}) {
    const TaskOutcome outcome = outcome_of("sleep", payload);
    EXPECT_EQ(outcome.error_code, "bad_payload") << payload;
    EXPECT_FALSE(outcome.retryable) << payload;
  }
}

// Else this test would last ten years.
TEST(BuiltinTasks, sleep_ends_when_it_is_asked_to_stop) {
  for (const char* longest : {"315360000000", "18446744073709551615"}) {
    const TaskOutcome outcome = outcome_of("sleep", longest, true);
    EXPECT_FALSE(outcome.is_completed);
    EXPECT_EQ(outcome.error_code, "stopped");
    EXPECT_TRUE(outcome.retryable);
  }
}

TEST(BuiltinTasks, count_goes_on_where_an_earlier_attempt_was) {
  RunJob job = job_with(R"({"to":5})");
  job.checkpoint = "3";
  const auto state = std::make_shared<Unheard>(std::move(job));
  Task task(state);
  EXPECT_EQ(call_handler(builtin_handlers().at("count"), task).result, R"({"from":3,"to":5})");
  EXPECT_EQ(state->checkpoints, "4 5 ");
  EXPECT_EQ(outcome_of("count", R"({"to":2})").result, R"({"from":0,"to":2})");
  EXPECT_EQ(outcome_of("count", R"({"to":0})").result, R"({"from":0,"to":0})");
  EXPECT_EQ(outcome_of("count", R"({"to":5,"ms":9999})", true).error_code, "stopped");
  for (const char* payload : {"", "5", "{}", R"({"to":"5"})", R"({"to":5,"ms":0.5})"})
    EXPECT_EQ(outcome_of("count", payload).error_code, "bad_payload") << payload;
}

TEST(BuiltinTasks, fail_may_be_asked_for_any_delay_up_to_the_longest) {
  const auto delay = [](const std::string& ms) {
    return outcome_of("fail", "{\"retry_after_ms\":" + ms + "}").retry_after_ms;
  };
  EXPECT_EQ(delay("1500"), 1500);
  EXPECT_EQ(delay("18446744073709551615"), kTenYearsMs);
  EXPECT_EQ(delay("-5"), 0);
}

TEST(BuiltinTasks, fail_fails_whatever_it_is_asked_and_may_be_tried_again_unless_told) {
  for (const char* payload :
       {"", "5", "{", "{}", R"({"code":5,"message":[],"retryable":"no","retry_after_ms":"1"})"}) {
    const TaskOutcome outcome = outcome_of("fail", payload);
    EXPECT_FALSE(outcome.is_completed) << payload;
    EXPECT_EQ(outcome.error_code, "failed") << payload;
    EXPECT_EQ(outcome.error, "as asked") << payload;
    EXPECT_TRUE(outcome.retryable) << payload;
    EXPECT_EQ(outcome.retry_after_ms, std::nullopt) << payload;
  }
}

}  // namespace
}  // namespace sluice::worker_builtin_tasks_test
