#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/handler_call.h"

namespace sluice::worker_handler_call_test {
namespace {

RunJob some_job() {
  RunJob made;
  made.id = JobId("a");
  made.fence = {7, 3};
  made.timeout_ms = 1500;
  made.headers = {{"trace", "x1"}, {"empty", ""}};
  return made;
}

// Keeps what the handler tells; its checkpoints are recorded at once.
struct Told : Task::State {
  explicit Told(std::int64_t deadline = kNever) : State(some_job(), deadline) {}

  void tell(AttemptProgress progress) override {
    answer(progress.awaited_n, true);
    all.push_back(std::move(progress));
  }

  void write_log(std::string_view bytes) override { log += bytes; }

  std::vector<AttemptProgress> all;
  std::string log;
};

// `handler` of task `t`, as the name it returns, or the refusal.
std::string taken(std::map<std::string, TaskSettings::Value> values, const Handlers& handlers) {
  TaskSettings settings("t", std::move(values));
  const auto handler = take_handler(settings, handlers);
  if (!handler) return handler.error().where + ": " + handler.error().detail;
  Task task(std::make_shared<Told>());
  return call_handler(handlers.at(*handler), task).result;
}

TEST(HandlerCall, a_log_is_of_lines) {
  const auto told = std::make_shared<Told>();
  Task task(told);
  task.log("one");
  task.log("two\nthree\n");
  task.log("");
  EXPECT_EQ(told->log, "one\ntwo\nthree\n\n");
}

TEST(HandlerCall, the_handler_is_the_named_one_or_that_of_the_task_s_own_name) {
  const Handlers handlers{{"t", make_handler([](Task&) { return "own"; })},
                          {"u", make_handler([](Task&) { return "other"; })}};
  EXPECT_EQ(taken({}, handlers), "own");
  EXPECT_EQ(taken({{"handler", std::string("u")}}, handlers), "other");
  EXPECT_EQ(taken({{"handler", std::string("v")}}, handlers),
            "task.t.handler: there is no handler v; there are t, u");
  EXPECT_EQ(taken({{"handler", true}}, handlers), "task.t.handler: must be a text");
}

TEST(HandlerCall, one_that_is_for_isolates_only_is_refused_elsewhere) {
  const Handlers for_isolates{{"crash", make_handler([](Task&) {})}};
  for (const char* task : {"crash", "t"}) {
    TaskSettings settings(task, {{"handler", std::string("crash")}});
    const auto handler = take_handler(settings, {}, for_isolates);
    ASSERT_FALSE(handler);
    EXPECT_EQ(handler.error().where, std::string("task.") + task + ".run");
    EXPECT_EQ(handler.error().detail,
              "crash ends the process that it runs in, here the node: it wants run = \"isolate\"");
  }
}

TEST(HandlerCall, middlewares_lie_around_each_other_and_see_what_the_handler_threw) {
  std::string seen;
  const auto named = [&seen](const char* name) {
    return [&seen, name](Task& task, const TaskHandler& next) {
      seen += name;
      TaskOutcome outcome = next(task);
      seen += std::string(name) + (outcome.is_completed ? "+" : "-" + outcome.error_code) + " ";
      return outcome;
    };
  };
  const Middleware refuses = [](Task&, const TaskHandler&) -> TaskOutcome {
    throw TaskFailed("not_now", "refused", false);
  };
  const auto outcome_of = [](const Handlers& handlers) {
    Task task(std::make_shared<Told>());
    return call_handler(handlers.at("t"), task);
  };
  const Handlers fine{{"t", make_handler([&seen](Task&) { seen += " handler "; })}};
  const Handlers throws{{"t", make_handler([](Task&) { throw std::runtime_error("broken"); })}};
  EXPECT_TRUE(outcome_of(with_middlewares(fine, {named("a"), named("b")})).is_completed);
  EXPECT_EQ(std::exchange(seen, {}), "ab handler b+ a+ ");
  const TaskOutcome broken = outcome_of(with_middlewares(throws, {named("a")}));
  EXPECT_EQ(broken.error, "broken");
  EXPECT_EQ(std::exchange(seen, {}), "aa-exception ");
  const TaskOutcome refused = outcome_of(with_middlewares(fine, {named("a"), refuses, named("b")}));
  EXPECT_EQ(refused.error_code, "not_now");
  EXPECT_FALSE(refused.retryable);
  EXPECT_EQ(seen, "aa-not_now ") << "neither the handler nor what lies within";
}

TEST(HandlerCall, after_a_stop_the_reason_decides_unless_it_finished_while_the_node_was_leaving) {
  struct Row {
    StopReason reason;
    Outcome said;
    Outcome outcome;
    std::string result;
  };

  for (const Row& row : {Row{StopReason::hand_back, Outcome::completed, Outcome::completed, "r"},
                         {StopReason::hand_back, Outcome::failed, Outcome::handed_back, ""},
                         {StopReason::cancel, Outcome::completed, Outcome::cancelled, ""},
                         {StopReason::cancel, Outcome::failed, Outcome::cancelled, ""},
                         {StopReason::dropped, Outcome::completed, Outcome::cancelled, ""},
                         {StopReason::timed_out, Outcome::completed, Outcome::failed, ""}}) {
    AttemptResult said = to_result(some_job(), TaskOutcome::failed("why", "words", false));
    said.outcome = row.said;
    said.result = "r";
    const AttemptResult result = after_stop(some_job(), row.reason, said);
    EXPECT_EQ(result.outcome, row.outcome) << to_string(row.reason);
    EXPECT_EQ(result.result, row.result) << to_string(row.reason);
    EXPECT_EQ(result.id, JobId("a"));
    EXPECT_EQ(result.fence, (Fence{7, 3}));
  }
}

TEST(HandlerCall, a_time_out_says_how_long_it_was_and_may_be_tried_again) {
  const AttemptResult said = to_result(some_job(), TaskOutcome::failed("why", "words", false));
  const AttemptResult result = after_stop(some_job(), StopReason::timed_out, said);
  EXPECT_EQ(result.error_code, "timeout");
  EXPECT_EQ(result.error, "stopped: its time was over");
  EXPECT_TRUE(result.retryable);
}

TEST(HandlerCall, progress_is_of_this_attempt_and_at_most_256_bytes) {
  const auto told = std::make_shared<Told>();
  Task task(told);
  task.progress(40, std::string(kProgressTextBytesMax, 'p'));
  task.progress(41, std::string(kProgressTextBytesMax + 1, 'q'));
  ASSERT_EQ(told->all.size(), 2U);
  EXPECT_EQ(told->all[0].id, JobId("a"));
  EXPECT_EQ(told->all[0].fence, (Fence{7, 3}));
  EXPECT_EQ(told->all[0].percent, 40U);
  EXPECT_EQ(told->all[0].message, std::string(256, 'p'));
  EXPECT_EQ(told->all[0].checkpoint, std::nullopt);
  EXPECT_EQ(told->all[1].message, std::string(256, 'q'));
  task.progress(42, std::string(255, 'r') + "€");
  EXPECT_EQ(told->all[2].message, std::string(255, 'r')) << "never cut inside a character";
}

TEST(HandlerCall, a_checkpoint_goes_with_the_last_progress_and_says_nothing_beyond_its_bound) {
  const auto told = std::make_shared<Told>();
  Task task(told);
  task.progress(40, "half");
  task.checkpoint(std::string(kCheckpointBytesMax, 'c'));
  EXPECT_THROW(task.checkpoint(std::string(kCheckpointBytesMax + 1, 'c')), std::length_error);
  ASSERT_EQ(told->all.size(), 2U);
  EXPECT_EQ(told->all[1].checkpoint, std::string(4096, 'c'));
  EXPECT_EQ(told->all[1].percent, 40U);
  EXPECT_EQ(told->all[1].message, "half");
}

// The thread that asks it to stop is the one that would answer. (Here it has already.)
TEST(HandlerCall, a_checkpoint_from_within_a_stop_is_told_and_waits_for_nobody) {
  const auto told = std::make_shared<Told>();
  Task task(told);
  bool is_recorded = true;
  const std::stop_callback save(task.stop_token(), [&] { is_recorded = task.checkpoint("here"); });
  told->ask_to_stop();
  EXPECT_FALSE(is_recorded);
  ASSERT_EQ(told->all.size(), 1U);
  EXPECT_EQ(told->all[0].checkpoint, "here");
}

TEST(HandlerCall, a_task_shows_its_headers_its_stop_and_no_time_below_nothing) {
  const auto told = std::make_shared<Told>(1);  // a millisecond after the machine's start
  Task task(told);
  EXPECT_EQ(task.remaining_ms(), 0);
  EXPECT_EQ(task.deadline()->time_since_epoch(), std::chrono::milliseconds(1));
  EXPECT_EQ(Task(std::make_shared<Told>()).remaining_ms(), std::nullopt);
  EXPECT_EQ(Task(std::make_shared<Told>()).deadline(), std::nullopt);
  EXPECT_EQ(task.header("trace"), "x1");
  EXPECT_EQ(task.header("empty"), "");
  EXPECT_EQ(task.header("none"), "");
  EXPECT_FALSE(task.stop_requested());
  told->stop.request_stop();
  EXPECT_TRUE(task.stop_requested());
  EXPECT_TRUE(task.stop_token().stop_requested());
}

}  // namespace
}  // namespace sluice::worker_handler_call_test
