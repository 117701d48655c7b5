// What producer_cli_test.cpp leaves open of `sluice submit` of one job.
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/cli.h"
#include "tests/support/cli.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_submit_test {
namespace {

using test::accept_all;
using test::Ended;
using test::ended_view;
using test::ScriptedBroker;
using test::sluice;
using testing::HasSubstr;
using Bodies = std::vector<ReplyBody>;

Ended ask(const ScriptedBroker& broker, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "submit");
  arguments.insert(arguments.end(), {"--broker", broker.address()});
  return sluice(arguments);
}

// What it says when the broker answers so to the job `j`.
Ended answered(const SubmitResult& result, std::vector<std::string> arguments = {}) {
  const ScriptedBroker broker([&](const RequestBody&) {
    return Bodies{Submitted{{result}, {}, false}};
  });
  arguments.insert(arguments.begin(), {"echo", "--id", "j"});
  return ask(broker, arguments);
}

TEST(CliSubmit, a_job_that_is_there_already_is_done) {
  const SubmitResult known{"j", SubmitStatus::duplicate, JobState::running, {}};
  const Ended text = answered(known);
  EXPECT_EQ(text.code, kExitOk);
  EXPECT_EQ(text.out, "j\n");
  EXPECT_EQ(answered(known, {"--json"}).out,
            "{\"id\":\"j\",\"status\":\"duplicate\",\"state\":\"running\"}\n");
}

TEST(CliSubmit, a_refusal_names_the_field_as_a_person_typed_it) {
  const Error error{ErrorCode::bad_field, "jobs[0].retry.base_ms", "is too long"};
  const Ended text = answered({"j", SubmitStatus::rejected, {}, error});
  EXPECT_EQ(text.code, kExitFailed);
  EXPECT_EQ(text.out, "");
  EXPECT_EQ(text.err, "sluice: retry.base_ms: is too long\n");
  const Ended conflict = answered({"j", SubmitStatus::conflict, JobState::queued, {}}, {"--json"});
  EXPECT_EQ(conflict.code, kExitFailed);
  EXPECT_EQ(conflict.err,
            R"({"error":{"code":"conflict","field":"id","message":"refused","retryable":false}})"
            "\n");
}

TEST(CliSubmit, without_an_id_one_is_made_and_printed) {
  const ScriptedBroker broker(
      [](const RequestBody& body) { return Bodies{test::accept_all(std::get<Submit>(body))}; });
  const std::string first = ask(broker, {"echo"}).out;
  EXPECT_EQ(first.size(), 37U);
  EXPECT_NE(first, ask(broker, {"echo"}).out);
}

TEST(CliSubmit, with_wait_the_end_is_shown_and_is_the_exit_status) {
  std::optional<std::int64_t> wait_ms;
  JobState end = JobState::completed;
  const ScriptedBroker broker([&](const RequestBody& body) -> Bodies {
    if (const auto* submit = std::get_if<Submit>(&body)) return {test::accept_all(*submit)};
    wait_ms = std::get<Wait>(body).timeout_ms;
    return {Finished{{ended_view("j", end, "7")}, {}}, Waited{}};
  });
  const std::vector<std::string> arguments = {"echo", "--id", "j", "-w", "--json", "--for", "5m"};
  const Ended done = ask(broker, arguments);
  EXPECT_EQ(done.code, kExitOk) << done.err;
  EXPECT_EQ(Json::parse(done.out)["result"], 7);
  ASSERT_TRUE(wait_ms);
  EXPECT_LE(*wait_ms, 300'000);
  EXPECT_GT(*wait_ms, 0);
  end = JobState::cancelled;
  EXPECT_EQ(ask(broker, arguments).code, kExitFailed);
}

// Its sender must not send it again under another id.
TEST(CliSubmit, when_no_answer_came_the_id_to_ask_for_is_said) {
  const ScriptedBroker broker([](const RequestBody&) { return Bodies{}; });
  const Ended ended = ask(broker, {"echo", "--id", "j", "--timeout", "1s"});
  EXPECT_EQ(ended.code, kExitTimeout);
  EXPECT_THAT(ended.err, HasSubstr("ask with `sluice get j`, or submit it again with --id j"));
}

TEST(CliSubmit, when_the_broker_dies_before_it_answers_the_id_that_it_may_have_is_said) {
  std::promise<std::string> heard;
  auto broker = std::make_unique<ScriptedBroker>([&](const RequestBody& body) {
    heard.set_value(std::get<JobSpec>(std::get<Submit>(body).jobs.at(0)).id.str());
    return Bodies{};
  });
  const std::vector<std::string> arguments =
      {"submit", "echo", "--timeout", "2s", "--json", "--broker", broker->address()};
  std::string id;
  std::thread death([&] {
    id = heard.get_future().get();
    broker.reset();
  });
  const Ended ended = sluice(arguments);
  death.join();
  EXPECT_EQ(ended.code, kExitUnavailable) << ended.err;
  const Json error = Json::parse(ended.err)["error"];
  EXPECT_EQ(error["id"], id);
  EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("submit it again with --id " + id));
}

TEST(CliSubmit, where_nothing_was_sent_no_broker_is_said_to_have_the_job) {
  std::string address;
  {
    const ScriptedBroker gone([](const RequestBody&) { return Bodies{}; });
    address = gone.address();
  }
  const Ended ended =
      sluice({"submit", "echo", "--id", "j", "--timeout", "100ms", "--broker", address});
  EXPECT_EQ(ended.code, kExitUnavailable);
  EXPECT_THAT(ended.err, testing::Not(HasSubstr("--id j")));
}

TEST(CliSubmit, what_is_wrong_is_2_and_nothing_is_sent) {
  bool is_asked = false;
  const ScriptedBroker broker([&](const RequestBody&) {
    is_asked = true;
    return Bodies{};
  });
  const std::vector<std::pair<std::vector<std::string>, const char*>> all = {
      {{"echo", "--jsonl", "f"}, "give a task, or --jsonl FILE"},
      {{"a b"}, "TASK: 'a b' is no task name"},
      {{"echo", "word"}, "payload: 'word' is neither JSON nor key=value"},
      {{"echo", "--id", "a/b"}, "--id: 'a/b' is no job id"},
      {{"echo", "--header", "name"}, "--header: write name=value"},
      {{"echo", "--max-retries", "1001"}, "--max-retries"},
      {{"echo", "--max-retries", "-1"}, "--max-retries"},
      {{"echo", "--retry", "eager"}, "'eager' is none of none, standard, patient"},
      {{"echo", "--delay", "1s", "--run-at", "5"}, "--run-at: not together with --delay"},
      {{"echo", "--attempt-timeout", "soon"}, "'soon' is no duration"},
      {{"echo", "--wait", "--for", "soon"}, "--for: 'soon' is no duration"},
      {{"echo", "--for", "soon"}, "--for: 'soon' is no duration"},
      {{"echo", "--timeout", "0"}, "--timeout: must be longer than 0"}};
  for (const auto& [arguments, words] : all) {
    const Ended ended = ask(broker, arguments);
    EXPECT_EQ(ended.code, kExitUsage) << words;
    EXPECT_THAT(ended.err, HasSubstr(words));
    EXPECT_EQ(ended.out, "");
  }
  EXPECT_FALSE(is_asked);
}

// A tag must not eat the payload behind it.
TEST(CliSubmit, a_repeated_flag_takes_one_value_each_time) {
  JobSpec seen;
  const ScriptedBroker broker([&](const RequestBody& body) {
    seen = std::get<JobSpec>(std::get<Submit>(body).jobs.at(0));
    return Bodies{test::accept_all(std::get<Submit>(body))};
  });
  ASSERT_EQ(ask(broker, {"echo", "--tag", "x", "a=1", "--tag", "y", "--header", "h=1", "b=2"}).code,
            0);
  EXPECT_THAT(seen.tags, testing::ElementsAre("x", "y"));
  EXPECT_THAT(seen.headers, testing::ElementsAre(Header{"h", "1"}));
  EXPECT_EQ(seen.payload, R"({"a":1,"b":2})");
}

TEST(CliSubmit, a_json_array_is_the_payload_as_it_stands_and_nothing_but_that) {
  std::vector<JobSpec> jobs;
  const ScriptedBroker broker([&](const RequestBody& body) {
    const auto& submit = std::get<Submit>(body);
    jobs.push_back(std::get<JobSpec>(submit.jobs.front()));
    return Bodies{accept_all(submit)};
  });
  const auto submitted = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"submit", "--broker", broker.address(), "echo"});
    EXPECT_EQ(sluice(words).code, kExitOk) << words.back();
    return jobs.back();
  };
  for (const std::string text : {"[]", "[5]", R"(["a"])", "[1,2]", "[[1],[]]", R"([{"a":[1]}])"})
    for (const std::vector<std::string>& words :
         {std::vector{text}, {"--", text}, {text, "--tag", "x"}, {"--tag", "x", text}})
      EXPECT_EQ(submitted(words).payload, text);
  EXPECT_EQ(submitted({"--keep-payload", "[7]"}).payload, "[7]");
  EXPECT_EQ(submitted({"a=[1]", "b=2"}).payload, R"({"a":[1],"b":2})");
  EXPECT_EQ(submitted({"--tag", "[x]", "[1]"}).tags, std::vector<std::string>{"[x]"});
  const std::string deep = std::string(20'000, '[') + std::string(20'000, ']');
  EXPECT_EQ(submitted({deep}).payload, deep);
}

}  // namespace
}  // namespace sluice::cli::producer_submit_test
