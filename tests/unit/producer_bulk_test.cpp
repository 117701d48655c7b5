// What producer_cli_test.cpp leaves open of `sluice submit --jsonl`.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/cli.h"
#include "tests/support/cli.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_bulk_test {
namespace {

using test::accept_all;
using test::Ended;
using test::ScriptedBroker;
using test::sluice;
using testing::ElementsAre;
using testing::HasSubstr;
using Bodies = std::vector<ReplyBody>;

// Takes every job and remembers its id.
class TakingBroker {
 public:
  [[nodiscard]] const std::string& address() const { return broker_.address(); }

  [[nodiscard]] const std::vector<std::string>& ids() const { return ids_; }

 private:
  Bodies take(const RequestBody& body) {
    const auto& submit = std::get<Submit>(body);
    for (const auto& job : submit.jobs)
      ids_.push_back(std::get<JobSpec>(job).id.str());
    return {accept_all(submit)};
  }

  std::vector<std::string> ids_;
  ScriptedBroker broker_{[this](const RequestBody& body) {
    return take(body);
  }};
};

// `text` as a file, submitted.
Ended submit(const std::string& text, std::vector<std::string> arguments) {
  std::string path = testing::TempDir() + "producer-bulk-XXXXXX";
  ::close(::mkstemp(path.data()));
  std::ofstream(path, std::ios::binary) << text;
  arguments.insert(arguments.begin(), {"submit", "--jsonl", path});
  const Ended ended = sluice(arguments);
  std::remove(path.c_str());
  return ended;
}

TEST(CliBulk, a_file_that_is_not_there_is_2) {
  const Ended ended = sluice({"submit", "--jsonl", "/no/such/file"});
  EXPECT_EQ(ended.code, kExitUsage);
  EXPECT_THAT(ended.err, HasSubstr("/no/such/file: cannot be read"));
}

TEST(CliBulk, a_file_of_nothing_is_done_at_once) {
  const TakingBroker broker;
  const Ended json = submit("", {"--json", "--broker", broker.address()});
  EXPECT_EQ(json.code, kExitOk);
  EXPECT_EQ(json.out,
            R"({"lines":0,"accepted":0,"duplicate":0,"refused":0,"bad_lines":0,"unanswered":0})"
            "\n");
  EXPECT_EQ(submit("\n \t\r\n", {"--broker", broker.address()}).out,
            "0 accepted, 0 already known, 0 refused, 0 bad lines, 0 without an answer\n");
  EXPECT_TRUE(broker.ids().empty());
}

TEST(CliBulk, lines_may_be_blank_end_as_those_of_windows_or_not_end) {
  const TakingBroker broker;
  const Ended ended = submit("\n{\"task\":\"t\",\"id\":\"a\"}\r\n  \n{\"task\":\"t\",\"id\":\"b\"}",
                             {"--json", "--broker", broker.address()});
  EXPECT_EQ(ended.code, kExitOk) << ended.err;
  EXPECT_EQ(Json::parse(ended.out)["lines"], 4);
  EXPECT_EQ(Json::parse(ended.out)["accepted"], 2);
  EXPECT_THAT(broker.ids(), ElementsAre("a", "b"));
}

TEST(CliBulk, a_bad_line_is_told_by_its_number_among_all_lines) {
  const TakingBroker broker;
  const Ended ended =
      submit("\n\n{\"task\":\"t\",\"delay_ms\":-1}\n{\"task\":\"t\",\"id\":\"b\"}\n",
             {"--broker", broker.address()});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_EQ(ended.err, "line 3: delay_ms: must be an integer from 0\n");
  EXPECT_EQ(ended.out,
            "1 accepted, 0 already known, 0 refused, 1 bad lines, 0 without an answer\n");
}

TEST(CliBulk, a_line_with_too_many_headers_or_tags_is_a_bad_one_even_as_the_first) {
  const TakingBroker broker;
  std::string headers;
  for (int i = 0; i < 8'000; ++i)
    headers += (i == 0 ? "\"h" : ",\"h") + std::to_string(i) + "\":\"\"";
  std::string tags = "\"t\"";
  for (int i = 0; i < 16; ++i)
    tags += ",\"t\"";
  const std::string lines = R"({"task":"t","headers":{)" + headers + "}}\n" +
                            R"({"task":"t","tags":[)" + tags + "]}\n" + R"({"task":"t","id":"a"})";
  const Ended ended = submit(lines, {"--broker", broker.address()});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_THAT(ended.err, HasSubstr("line 1: headers: has more than 16 entries\n"));
  EXPECT_THAT(ended.err, HasSubstr("line 2: tags: has more than 16 entries\n"));
  EXPECT_THAT(broker.ids(), ElementsAre("a"));
}

TEST(CliBulk, it_stops_at_the_first_bad_line_when_told_and_sends_those_before) {
  const TakingBroker broker;
  const Ended ended =
      submit("{\"task\":\"t\",\"id\":\"a\"}\nno json\n{\"task\":\"t\",\"id\":\"c\"}\n",
             {"--stop-at-error", "--json", "--broker", broker.address()});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_THAT(broker.ids(), ElementsAre("a"));
  EXPECT_EQ(Json::parse(ended.out)["lines"], 2);
  EXPECT_EQ(Json::parse(ended.out)["accepted"], 1);
}

TEST(CliBulk, a_line_longer_than_any_job_is_passed_over_and_the_next_is_taken) {
  const TakingBroker broker;
  const std::string pad(6 * kPayloadBytesMax + 65'536, 'x');
  const Ended ended = submit("{\"task\":\"" + pad + "\"}\n{\"task\":\"t\",\"id\":\"b\"}\n",
                             {"--broker", broker.address()});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_EQ(ended.err, "line 1: is too long\n");
  EXPECT_THAT(broker.ids(), ElementsAre("b"));
}

// What was kept of it is blank, what was passed over may have been a job.
TEST(CliBulk, a_line_too_long_that_begins_with_blanks_is_not_taken_for_a_blank_one) {
  const TakingBroker broker;
  const std::string pad(6 * kPayloadBytesMax + 65'536, ' ');
  const Ended ended = submit(pad + "{\"task\":\"t\",\"id\":\"a\"}\n{\"task\":\"t\",\"id\":\"b\"}\n",
                             {"--broker", broker.address()});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_EQ(ended.err, "line 1: is too long\n");
  EXPECT_THAT(broker.ids(), ElementsAre("b"));
}

TEST(CliBulk, a_job_refused_by_the_broker_is_told_with_its_line_id_and_field) {
  const ScriptedBroker broker([](const RequestBody& body) {
    Submitted submitted = accept_all(std::get<Submit>(body));
    submitted.results.at(1).status = SubmitStatus::rejected;
    submitted.results.at(1).error = Error{ErrorCode::bad_field, "jobs[1].queue", "no name"};
    return Bodies{std::move(submitted)};
  });
  const Ended ended = submit("{\"task\":\"t\",\"id\":\"a\"}\n\n{\"task\":\"t\",\"id\":\"b\"}\n",
                             {"--json", "--broker", broker.address()});
  EXPECT_EQ(ended.code, kExitFailed);
  EXPECT_EQ(ended.err,
            R"({"line":3,"id":"b","code":"bad_field","field":"queue","message":"no name"})"
            "\n");
  EXPECT_EQ(Json::parse(ended.out)["refused"], 1);
  EXPECT_EQ(Json::parse(ended.out)["accepted"], 1);
}

TEST(CliBulk, what_has_no_answer_is_counted_and_what_to_do_is_said) {
  std::string address;
  {
    const ScriptedBroker gone([](const RequestBody&) { return Bodies{}; });
    address = gone.address();
  }
  const Ended ended = submit("{\"task\":\"t\"}\n", {"--timeout", "50ms", "--broker", address});
  EXPECT_EQ(ended.code, kExitUnavailable);
  EXPECT_THAT(ended.out, HasSubstr("1 without an answer"));
  EXPECT_THAT(ended.err, HasSubstr("lines with an \"id\" are not taken twice"));
}

}  // namespace
}  // namespace sluice::cli::producer_bulk_test
