// What producer_cli_test.cpp leaves open of it.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/show.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_show_test {
namespace {

using test::ended_view;
using testing::HasSubstr;
using testing::Not;

JobView not_found() {
  JobView view;
  view.id = JobId("a");
  view.is_not_found = true;
  return view;
}

JobView result_gone(JobState state) {
  JobView view;
  view.id = JobId("a");
  view.is_result_gone = true;
  view.state = state;
  view.finished_ms = 7;
  return view;
}

TEST(CliShow, bytes_that_are_nothing_else_are_base64_with_its_padding) {
  const auto base64 = [](const std::string& bytes) {
    return bytes_to_json(bytes, "text/plain")["base64"].get<std::string>();
  };
  EXPECT_EQ(base64("\xff"), "/w==");
  EXPECT_EQ(base64("\xff\xff"), "//8=");
  EXPECT_EQ(base64("\xff\xff\xff"), "////");
  EXPECT_EQ(base64(std::string("\xfb\0\0\x01", 4)), "+wAAAQ==");
}

TEST(CliShow, a_great_document_is_shown_with_its_keys_sorted) {
  std::string text = R"({"b":1)";
  for (int i = 0; i < 5'000; ++i)
    text += ",\"c" + std::to_string(i) + "\":0";
  text += R"(,"a":2})";
  const Json shown = bytes_to_json(text, "application/json");
  ASSERT_EQ(shown.size(), 5'002U);
  EXPECT_EQ(shown.begin().key(), "a");
  EXPECT_EQ(bytes_to_json("{broken" + std::string(40'000, ' '), "").type(), Json::value_t::string);
}

TEST(CliShow, what_is_nested_without_end_is_no_document) {
  const std::string deep_json = std::string(500'000, '[') + std::string(500'000, ']');
  EXPECT_EQ(bytes_to_json(deep_json, "application/json"), deep_json);
  const std::string deep_msgpack = std::string(1 << 20, '\x91') + '\x01';
  EXPECT_TRUE(bytes_to_json(deep_msgpack, "application/msgpack").contains("base64"));
}

TEST(CliShow, bytes_are_read_as_what_they_are_whatever_their_type_promises) {
  EXPECT_EQ(bytes_to_json("{broken", "application/json"), "{broken");
  EXPECT_EQ(bytes_to_json("\x81\xa1", "application/msgpack")["base64"], "gaE=") << "cut off";
  EXPECT_EQ(bytes_to_json("[1]", ""), Json::array({1})) << "a result has no type";
  EXPECT_EQ(bytes_to_json(R"({"b":1,"a":2})", "").dump(), R"({"b":1,"a":2})");
  EXPECT_EQ(bytes_to_json("a", ""), "a") << "one character, no number";
  EXPECT_EQ(bytes_to_json("", "text/plain"), "");
}

// JSON escapes those of ASCII below 20 and no others.
TEST(CliShow, a_payload_of_json_cannot_steer_the_terminal) {
  JobView view = ended_view("a", JobState::failed);
  view.job->spec.content_type = "application/json";
  view.job->spec.payload = "{\"k\":\"\xc2\x9b\x7f\"}";
  EXPECT_THAT(job_to_text(view, 0, false), HasSubstr(R"({"k":"\xc2\x9b\x7f"})"));
}

TEST(CliShow, a_job_as_json_has_the_names_of_the_protocol) {
  JobView view = ended_view("a", JobState::failed);
  Job& job = *view.job;
  job.spec.queue = "mail";
  job.spec.tags = {"x"};
  job.retry_count = 2;
  job.attempt = 3;
  job.error_code = "exit_1";
  job.attempts.push_back({3, "n@1", 10, 30, AttemptEnd::timed_out, "late", "", 0, 0});
  const Json json = job_to_json(view);
  EXPECT_EQ(json["id"], "a");
  EXPECT_EQ(json["state"], "failed");
  EXPECT_EQ(json["task"], "echo");
  EXPECT_EQ(json["queue"], "mail");
  EXPECT_EQ(json["priority"], "normal");
  EXPECT_EQ(json["retry_count"], 2);
  EXPECT_EQ(json["max_retries"], kMaxRetriesDefault);
  EXPECT_EQ(json["attempt"], 3);
  EXPECT_EQ(json["tags"], Json::array({"x"}));
  EXPECT_EQ(json["error_code"], "exit_1");
  EXPECT_EQ(json["finished_ms"], 2);
  EXPECT_EQ(json["attempts"][0].dump(),
            R"({"attempt":3,"node":"n@1","started_ms":10,"ended_ms":30,"outcome":"timed_out",)"
            R"("error_code":"late"})");
  for (const char* absent : {"result", "payload", "error", "cancel_reason", "progress"})
    EXPECT_FALSE(json.contains(absent)) << absent;
}

TEST(CliShow, a_job_that_is_not_there_is_json_of_its_own) {
  EXPECT_EQ(job_to_json(not_found()).dump(), R"({"id":"a","state":"not_found"})");
  EXPECT_EQ(job_to_json(result_gone(JobState::completed)).dump(),
            R"({"id":"a","state":"completed","finished_ms":7,"result_gone":true})");
}

TEST(CliShow, the_exit_status_is_of_the_end) {
  EXPECT_EQ(exit_code_of_end(ended_view("a", JobState::completed)), kExitOk);
  EXPECT_EQ(exit_code_of_end(ended_view("a", JobState::failed)), kExitFailed);
  EXPECT_EQ(exit_code_of_end(ended_view("a", JobState::cancelled)), kExitFailed);
  EXPECT_EQ(exit_code_of_end(result_gone(JobState::completed)), kExitOk);
  EXPECT_EQ(exit_code_of_end(result_gone(JobState::failed)), kExitFailed);
  EXPECT_EQ(exit_code_of_end(not_found()), kExitNotFound);
}

TEST(CliShow, a_submit_as_json_says_why_not) {
  EXPECT_EQ(submit_result_to_json({"a", SubmitStatus::accepted, {}, {}}).dump(),
            R"({"id":"a","status":"accepted"})");
  const Error error{ErrorCode::conflict, "id", "other content"};
  EXPECT_EQ(submit_result_to_json({"a", SubmitStatus::conflict, JobState::queued, error}).dump(),
            R"({"id":"a","status":"conflict","state":"queued",)"
            R"("error":{"code":"conflict","field":"id","message":"other content"}})");
}

TEST(CliShow, what_a_job_says_of_itself_depends_on_its_state) {
  EXPECT_THAT(job_to_text(not_found(), 0, false), HasSubstr("not found"));
  EXPECT_THAT(job_to_text(result_gone(JobState::failed), 0, false),
              HasSubstr("gone: Redis does not"));
  JobView view = ended_view("a", JobState::running);
  view.job->node = "n@1";
  view.job->progress_percent = 40;
  view.job->progress_message = "page 3";
  view.job->due_ms = 5;
  std::string text = job_to_text(view, 10, false);
  EXPECT_THAT(text, HasSubstr("n@1"));
  EXPECT_THAT(text, HasSubstr("40 %  page 3"));
  EXPECT_THAT(text, Not(HasSubstr("cancelling")));
  EXPECT_THAT(text, Not(HasSubstr("due"))) << "only of a pending job";
  view.job->cancel_requested_ms = 9;
  EXPECT_THAT(job_to_text(view, 10, false), HasSubstr("running (cancelling)"));
  view.job->state = JobState::cancelled;
  text = job_to_text(view, 10, false);
  EXPECT_THAT(text, Not(HasSubstr("cancelling")));
  EXPECT_THAT(text, Not(HasSubstr("40 %")));
  view.job->state = JobState::pending;
  EXPECT_THAT(job_to_text(view, 10, false), HasSubstr("due"));
}

TEST(CliShow, a_value_for_people_is_readable_and_cannot_steer_the_terminal) {
  const auto shown = [](std::string result) {
    return job_to_text(ended_view("a", JobState::completed, std::move(result)), 10, false);
  };
  EXPECT_THAT(shown("\xff\xfe\xfd"), HasSubstr("3 bytes that are no text; --json shows them"));
  EXPECT_THAT(shown("\x1b[2Jhello\n\n"), HasSubstr("result     \\x1b[2Jhello\n"));
  EXPECT_THAT(shown(R"({"a":1})"), HasSubstr("result     {\"a\":1}\n"));
  const std::string long_text(80, 'x');
  EXPECT_THAT(shown("{\"a\":\"" + long_text + "\"}"), HasSubstr("{\n  \"a\": \"xxx"));
  JobView failed = ended_view("a", JobState::failed);
  failed.job->error_code = "e";
  failed.job->error = "\x1b]0;title\x07";
  EXPECT_THAT(job_to_text(failed, 10, false), HasSubstr("e: \\x1b]0;title\\x07"));
}

}  // namespace
}  // namespace sluice::cli::producer_show_test
