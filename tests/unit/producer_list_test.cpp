// What producer_cli_test.cpp leaves open of `sluice list`.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/cli.h"
#include "tests/support/cli.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_list_test {
namespace {

using test::Ended;
using test::ended_view;
using test::ScriptedBroker;
using test::sluice;
using testing::ContainsRegex;
using testing::HasSubstr;
using Bodies = std::vector<ReplyBody>;

// A broker that answers with this page, and the filters it was asked with.
class ListBroker {
 public:
  explicit ListBroker(Listed page) : page_(std::move(page)) {}

  Ended list(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "list");
    arguments.insert(arguments.end(), {"--broker", broker_.address()});
    return sluice(arguments);
  }

  [[nodiscard]] const std::vector<Filter>& asked() const { return asked_; }

 private:
  Listed page_;
  std::vector<Filter> asked_;
  ScriptedBroker broker_{[this](const RequestBody& body) {
    asked_.push_back(std::get<List>(body).filter);
    return Bodies{page_};
  }};
};

TEST(CliList, asks_for_what_was_typed) {
  ListBroker broker({});
  ASSERT_EQ(broker.list({"-s", "failed", "-q", "mail", "--limit", "7", "--cursor", "c:1"}).code, 0);
  ASSERT_EQ(broker.asked().size(), 1U);
  EXPECT_EQ(broker.asked()[0], (Filter{JobState::failed, "mail", "", "", "", "c:1", 7}));
  ASSERT_EQ(broker.list({"-s", "running", "--task", "t", "--tag", "x", "--error-code", "e"}).code,
            0);
  const Filter& picked = broker.asked().back();
  EXPECT_EQ(picked.task, "t");
  EXPECT_EQ(picked.tag, "x");
  EXPECT_EQ(picked.error_code, "e");
}

TEST(CliList, a_cursor_over_all_states_goes_on_in_its_state) {
  ListBroker broker({});
  ASSERT_EQ(broker.list({"--cursor", "failed:a:b"}).code, kExitOk);
  ASSERT_EQ(broker.asked().size(), 2U);
  EXPECT_EQ(broker.asked()[0].state, JobState::failed);
  EXPECT_EQ(broker.asked()[0].cursor, "a:b");
  EXPECT_EQ(broker.asked()[1].state, JobState::cancelled);
  EXPECT_EQ(broker.asked()[1].cursor, "");
}

TEST(CliList, what_is_wrong_is_2_and_nobody_is_asked) {
  ListBroker broker({});
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--limit", "0"},
                                                {"--limit", "201"},
                                                {"--limit", "many"},
                                                {"--state", "Failed"},
                                                {"--cursor", "sleeping:7"},
                                                {"--cursor", ":7"},
                                                {"extra"}})
    EXPECT_EQ(broker.list(wrong).code, kExitUsage) << wrong[0];
  EXPECT_TRUE(broker.asked().empty());
}

TEST(CliList, of_nothing_is_no_failure) {
  ListBroker broker({});
  const Ended json = broker.list({"--json"});
  EXPECT_EQ(json.code, kExitOk);
  EXPECT_EQ(json.out, "{\"jobs\":[],\"cursor\":\"\"}\n");
  EXPECT_EQ(broker.list({"--json", "--all"}).out, "") << "no line for no job";
  EXPECT_EQ(broker.list({}).out, "no such job\n");
}

TEST(CliList, a_page_that_is_not_the_last_says_how_to_go_on) {
  ListBroker broker({{ended_view("a", JobState::failed)}, "c7", 0});
  const Ended one = broker.list({"-s", "failed", "--limit", "1"});
  EXPECT_EQ(one.code, kExitOk);
  EXPECT_THAT(one.out, testing::EndsWith("\nmore: --cursor c7   or --all\n"));
  const Ended all = broker.list({"--limit", "1", "--cursor", "failed:c6"});
  EXPECT_THAT(all.out, HasSubstr("more: --cursor failed:c7 "));
  const Ended json = broker.list({"-s", "failed", "--limit", "1", "--json"});
  EXPECT_EQ(Json::parse(json.out)["cursor"], "c7");
  EXPECT_EQ(Json::parse(json.out)["jobs"][0]["id"], "a");
}

TEST(CliList, a_row_shows_what_a_person_looks_for) {
  JobView failed = ended_view("a", JobState::failed);
  failed.job->spec.queue = "mail";
  failed.job->spec.priority = Priority::high;
  failed.job->spec.tags = {"x", "\x1b[2J"};
  failed.job->retry_count = 2;
  failed.job->error_code = "exit_1";
  JobView gone;
  gone.id = JobId("b");
  gone.is_result_gone = true;
  gone.state = JobState::failed;
  ListBroker broker({{failed, gone}, "", 0});
  const std::string out = broker.list({"-s", "failed"}).out;
  EXPECT_THAT(out, ContainsRegex("id +state +task +queue +priority +retries +when +tags, error\n"));
  EXPECT_THAT(out,
              ContainsRegex("a +failed +echo +mail +high +2/3 .* ago +x,\\\\x1b\\[2J  exit_1\n"));
  EXPECT_THAT(out, ContainsRegex("\nb +failed\n"));
}

TEST(CliList, what_was_listed_before_a_failure_stays_told) {
  int pages = 0;
  const ScriptedBroker broker([&](const RequestBody&) -> Bodies {
    if (pages++ != 0) return {ErrorReply{{ErrorCode::bad_field, "cursor", "too old"}, false, {}}};
    return {Listed{{ended_view("a", JobState::failed)}, "c", 0}};
  });
  const Ended ended = sluice(
      {"list", "-s", "failed", "--limit", "1", "--all", "--json", "--broker", broker.address()});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_EQ(Json::parse(ended.out)["id"], "a");
  EXPECT_EQ(Json::parse(ended.err)["error"]["field"], "cursor");
}

}  // namespace
}  // namespace sluice::cli::producer_list_test
