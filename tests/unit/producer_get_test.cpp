// What producer_cli_test.cpp leaves open of `sluice get` and `wait`.
#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/cli.h"
#include "tests/support/cli.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_get_test {
namespace {

using test::Ended;
using test::ended_view;
using test::ScriptedBroker;
using test::sluice;
using testing::HasSubstr;
using Bodies = std::vector<ReplyBody>;

JobView unknown(std::string_view id) {
  JobView view;
  view.id = JobId(id);
  view.is_not_found = true;
  return view;
}

// Answers `get` and `wait` with these jobs; an id that is none of them has not ended.
Ended ask(std::vector<std::string> arguments, const std::vector<JobView>& jobs) {
  const ScriptedBroker broker([&](const RequestBody& body) -> Bodies {
    if (std::holds_alternative<Get>(body)) return {Jobs{jobs, {}}};
    Waited waited;
    for (const JobId& id : std::get<Wait>(body).ids)
      if (std::none_of(jobs.begin(), jobs.end(), [&](const JobView& job) { return job.id == id; }))
        waited.unfinished.push_back(id);
    return {Finished{jobs, {}}, std::move(waited)};
  });
  arguments.insert(arguments.end(), {"--broker", broker.address()});
  return sluice(arguments);
}

TEST(CliGet, json_of_one_id_is_an_object_and_of_several_an_array_in_their_order) {
  const auto jobs = {ended_view("b", JobState::failed), ended_view("a", JobState::completed)};
  EXPECT_EQ(Json::parse(ask({"get", "b", "--json"}, {ended_view("b", JobState::failed)}).out)["id"],
            "b");
  const Json both = Json::parse(ask({"get", "a", "b", "--json"}, jobs).out);
  ASSERT_EQ(both.size(), 2U);
  EXPECT_EQ(both[0]["id"], "a");
  EXPECT_EQ(both[1]["id"], "b");
}

// Whether it went well with the job is for `wait` to say.
TEST(CliGet, a_job_that_failed_was_shown_all_the_same) {
  EXPECT_EQ(ask({"get", "a"}, {ended_view("a", JobState::failed)}).code, kExitOk);
  JobView gone;
  gone.id = JobId("a");
  gone.is_result_gone = true;
  gone.state = JobState::failed;
  EXPECT_EQ(ask({"get", "a"}, {gone}).code, kExitOk);
  const Ended none = ask({"get", "a", "--json"}, {unknown("a")});
  EXPECT_EQ(none.code, kExitNotFound);
  EXPECT_EQ(none.out, "{\"id\":\"a\",\"state\":\"not_found\"}\n");
}

TEST(CliGet, several_jobs_are_parted_by_an_empty_line) {
  const auto jobs = {ended_view("a", JobState::completed), ended_view("b", JobState::completed)};
  const std::string out = ask({"get", "a", "b"}, jobs).out;
  EXPECT_THAT(out, testing::StartsWith("job        a\n"));
  EXPECT_THAT(out, HasSubstr("\n\njob        b\n"));
}

TEST(CliWait, the_exit_status_is_of_the_worst_end) {
  const auto code = [](const std::vector<JobView>& jobs) {
    std::vector<std::string> arguments = {"wait"};
    for (const JobView& job : jobs)
      arguments.push_back(job.id.str());
    return ask(arguments, jobs).code;
  };
  const JobView done = ended_view("a", JobState::completed);
  EXPECT_EQ(code({done}), kExitOk);
  EXPECT_EQ(code({ended_view("b", JobState::cancelled), done}), kExitFailed);
  EXPECT_EQ(code({done, ended_view("b", JobState::failed)}), kExitFailed);
  EXPECT_EQ(code({unknown("c"), ended_view("b", JobState::failed), done}), kExitNotFound);
}

TEST(CliWait, what_has_not_ended_in_time_is_named) {
  const std::vector<JobView> jobs = {ended_view("a", JobState::failed)};
  const Ended json = ask({"wait", "a", "b", "--for", "0ms", "--json"}, jobs);
  EXPECT_EQ(json.code, kExitTimeout);
  const Json both = Json::parse(json.out);
  ASSERT_EQ(both.size(), 2U);
  EXPECT_EQ(both[0]["state"], "failed");
  EXPECT_EQ(both[1].dump(), R"({"id":"b","unfinished":true})");
  EXPECT_EQ(Json::parse(json.err)["error"]["code"], "timeout");
  EXPECT_EQ(ask({"wait", "b", "--for", "0ms", "--json"}, {}).out,
            "{\"id\":\"b\",\"unfinished\":true}\n");
  EXPECT_EQ(ask({"wait", "a", "b", "--for", "0ms"}, jobs).err,
            "sluice: 1 of 2 jobs had not ended when the time was over, first b\n");
}

TEST(CliWait, what_is_wrong_is_2_and_nobody_is_asked) {
  bool is_asked = false;
  const ScriptedBroker broker([&](const RequestBody&) {
    is_asked = true;
    return Bodies{};
  });
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"wait", "a/b"},
                                                {"get", "a", ""},
                                                {"get", std::string(65, 'x')},
                                                {"wait", "a", "--for", "soon"},
                                                {"wait", "a", "--for", "-1s"},
                                                {"wait", "a", "--for", "3651d"}}) {
    std::vector<std::string> arguments = wrong;
    arguments.insert(arguments.end(), {"--broker", broker.address()});
    EXPECT_EQ(sluice(arguments).code, kExitUsage) << wrong.back();
  }
  EXPECT_FALSE(is_asked);
}

}  // namespace
}  // namespace sluice::cli::producer_get_test
