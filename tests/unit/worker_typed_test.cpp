#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "worker/runtime/handler_call.h"
#include "worker/sdk/typed.h"

namespace sluice::worker_typed_test {
namespace {

struct Resize {
  std::string url;
  int width = 0;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE(Resize, url, width)
};

struct Resized {
  std::string url;
  std::vector<int> sizes;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE(Resized, url, sizes)
};

struct Silent : Task::State {
  explicit Silent(RunJob run_job) : State(std::move(run_job), kNever) {}

  void tell(AttemptProgress) override {}
};

TaskOutcome outcome_of(const TaskHandler& handler,
                       std::string payload,
                       std::string content_type = "application/json") {
  RunJob job;
  job.id = JobId("a");
  job.payload = std::move(payload);
  job.content_type = std::move(content_type);
  Task task(std::make_shared<Silent>(std::move(job)));
  return call_handler(handler, task);
}

TaskHandler resizes() {
  return typed<Resize>([](const Resize& wanted) {
    return Resized{wanted.url + "#", {wanted.width, 2 * wanted.width}};
  });
}

TEST(Typed, the_result_comes_in_the_form_of_the_payload) {
  const std::string text = R"({"url":"u","width":3,"more":[1]})";
  EXPECT_EQ(outcome_of(resizes(), text).result, R"({"sizes":[3,6],"url":"u#"})");
  std::string packed;
  nlohmann::json::to_msgpack(nlohmann::json::parse(text), packed);
  const TaskOutcome outcome = outcome_of(resizes(), packed, "application/msgpack");
  EXPECT_EQ(nlohmann::json::from_msgpack(outcome.result).get<Resized>().sizes,
            (std::vector<int>{3, 6}));
}

TEST(Typed, a_payload_that_is_no_such_value_is_failed_for_good) {
  const std::vector<std::pair<std::string, std::string>> refused{
      {R"({"url":"u"})", "key 'width' not found"},
      {R"({"url":5,"width":3})", "type must be string, but is number"},
      {R"([])", "cannot use at() with array"},
      {"", "parse error"},
      {"{", "parse error"},
      {std::string(100, '['), "the payload is cut short, or nested deeper than 32"},
  };
  for (const auto& [payload, words] : refused) {
    const TaskOutcome outcome = outcome_of(resizes(), payload);
    EXPECT_FALSE(outcome.is_completed) << payload;
    EXPECT_FALSE(outcome.retryable) << payload;
    EXPECT_EQ(outcome.error_code, "bad_payload") << payload;
    EXPECT_TRUE(outcome.error.starts_with(words)) << payload << ": " << outcome.error;
  }
  EXPECT_EQ(outcome_of(resizes(), std::string(1 << 20, '\x91'), "application/msgpack").error_code,
            "bad_payload");
  EXPECT_EQ(outcome_of(resizes(), "", "application/msgpack").error_code, "bad_payload");
  EXPECT_EQ(outcome_of(resizes(), "{}", "text/plain").error,
            "content_type is text/plain, this task takes application/msgpack and application/json");
}

TEST(Typed, a_handler_may_return_nothing_or_an_outcome_and_look_at_its_task) {
  const std::string text = R"({"url":"u","width":3})";
  EXPECT_EQ(outcome_of(typed<Resize>([](const Resize&) {}), text).result, "");
  const auto says_no = [](const Resize& wanted, Task& task) {
    return TaskOutcome::failed("no", wanted.url + std::string(task.id()), false);
  };
  EXPECT_EQ(outcome_of(typed<Resize>(says_no), text).error, "ua");
  const auto throws = [](const Resize&) -> int {
    throw TaskFailed("why", "because");
  };
  EXPECT_EQ(outcome_of(typed<Resize>(throws), text).error_code, "why");
}

}  // namespace
}  // namespace sluice::worker_typed_test
