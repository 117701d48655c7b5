#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/tasks/attempt_result.h"

namespace sluice::worker_attempt_result_test {
namespace {

using testing::HasSubstr;
using testing::Not;

RunJob some_job() {
  RunJob job;
  job.id = JobId("a");
  job.fence = {7, 3};
  job.timeout_ms = 1500;
  return job;
}

HttpReply answer(int status, std::string body = {}, std::vector<Header> headers = {}) {
  HttpReply reply;
  reply.status = status;
  reply.url = "https://h.example/p?key=k-1";
  reply.body = std::move(body);
  reply.headers = std::move(headers);
  return reply;
}

HttpReply trouble(int status, bool retryable) {
  HttpReply reply = answer(status, "what came of it");
  reply.error_code = "response_too_large";
  reply.error = "more than 10 bytes";
  reply.retryable = retryable;
  return reply;
}

AttemptResult failed(const HttpReply& reply, const std::vector<UsedSecret>& secrets = {}) {
  return failed_call(some_job(), reply, secrets, 0);
}

TEST(HttpAttemptResult, a_result_of_just_the_bound_is_kept_and_a_larger_one_fails_for_good) {
  const AttemptResult kept = completed_attempt(some_job(), std::string(kResultBytesMax, 'r'));
  EXPECT_EQ(kept.outcome, Outcome::completed);
  EXPECT_EQ(kept.result.size(), kResultBytesMax);
  EXPECT_EQ(kept.id, JobId("a"));
  EXPECT_EQ(kept.fence, (Fence{7, 3}));
  const AttemptResult large = completed_attempt(some_job(), std::string(kResultBytesMax + 1, 'r'));
  EXPECT_EQ(large.outcome, Outcome::failed);
  EXPECT_EQ(large.error_code, "result_too_large");
  EXPECT_EQ(large.error, "the result has 1048577 bytes, at most 1048576 are kept");
  EXPECT_FALSE(large.retryable);
}

TEST(HttpAttemptResult, an_error_names_its_field_and_fits_the_wire) {
  const AttemptResult named = failed_attempt(some_job(), {ErrorCode::bad_field, "url", "no\x01"});
  EXPECT_EQ(named.error_code, "bad_payload");
  EXPECT_EQ(named.error, "url: no?");
  EXPECT_FALSE(named.retryable);
  const Error nameless{ErrorCode::denied, "", std::string(kErrorTextBytesMax + 1, 'w')};
  const AttemptResult result = failed_attempt(some_job(), nameless, "secret_refused");
  EXPECT_EQ(result.error_code, "secret_refused");
  EXPECT_EQ(result.error, std::string(kErrorTextBytesMax, 'w'));
}

TEST(HttpAttemptResult, a_stop_has_the_outcome_of_its_reason) {
  for (const auto& [reason, outcome] : {std::pair{StopReason::cancel, Outcome::cancelled},
                                        {StopReason::dropped, Outcome::cancelled},
                                        {StopReason::hand_back, Outcome::handed_back},
                                        {StopReason::timed_out, Outcome::failed}})
    EXPECT_EQ(stopped_attempt(some_job(), reason).outcome, outcome) << to_string(reason);
  const AttemptResult timed_out = stopped_attempt(some_job(), StopReason::timed_out);
  EXPECT_EQ(timed_out.error_code, "timeout");
  EXPECT_EQ(timed_out.error, "stopped: its time was over");
  EXPECT_TRUE(timed_out.retryable);
}

TEST(HttpAttemptResult, a_wait_is_heeded_up_to_a_day_and_only_where_another_try_helps) {
  const auto wait = [](int status, const char* value) {
    return failed(answer(status, "", {{"retry-after", value}})).retry_after_ms;
  };
  EXPECT_EQ(wait(503, "86400"), 86'400'000);
  EXPECT_EQ(wait(429, "86401"), 86'400'000);
  EXPECT_EQ(wait(503, "soon"), std::nullopt);
  EXPECT_EQ(wait(404, "5"), std::nullopt);
}

TEST(HttpAttemptResult, an_answer_is_shown_without_its_query_and_with_300_bytes_of_its_body) {
  const AttemptResult result = failed(answer(400, std::string(299, 'b') + "yz"));
  EXPECT_EQ(result.error, "status 400 from https://h.example/p: " + std::string(299, 'b') + "y");
  EXPECT_EQ(failed(answer(400)).error, "status 400 from https://h.example/p");
}

TEST(HttpAttemptResult, without_a_whole_answer_the_reply_says_itself_whether_to_try_again) {
  for (const bool retryable : {true, false}) {
    const AttemptResult result = failed(trouble(200, retryable));
    EXPECT_EQ(result.error_code, "response_too_large");
    EXPECT_EQ(result.error, "https://h.example/p: more than 10 bytes");
    EXPECT_EQ(result.retryable, retryable);
  }
  const AttemptResult refused = failed(trouble(404, true));
  EXPECT_EQ(refused.error_code, "http_404") << "the status of an error counts, its body does not";
  EXPECT_FALSE(refused.retryable);
}

TEST(HttpAttemptResult, a_secret_is_taken_out_also_where_the_body_is_cut) {
  const std::vector<UsedSecret> secrets{{"KEY", "hunter-two"}, {"PATH", "h.example"}};
  const AttemptResult result = failed(answer(400, std::string(294, 'b') + "hunter-two"), secrets);
  EXPECT_THAT(result.error, Not(HasSubstr("hunt")));
  EXPECT_THAT(result.error, HasSubstr("from https://[secret:PATH]/p: b"));
  HttpReply lost = trouble(0, true);
  lost.error = "no route with hunter-two";
  EXPECT_THAT(failed(lost, secrets).error, HasSubstr("no route with [secret:KEY]"));
}

}  // namespace
}  // namespace sluice::worker_attempt_result_test
