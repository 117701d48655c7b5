#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/core/bounded.h"

namespace sluice::worker_bounded_test {
namespace {

AttemptResult completed(std::string bytes) {
  AttemptResult result;
  result.id = JobId("a");
  result.fence = {7, 3};
  result.result = std::move(bytes);
  return result;
}

AttemptResult failed(std::optional<std::int64_t> retry_after_ms = {}) {
  AttemptResult result = completed("");
  result.outcome = Outcome::failed;
  result.retry_after_ms = retry_after_ms;
  return result;
}

TEST(Bounded, a_result_of_just_the_bound_stays_and_one_byte_more_fails_for_good) {
  const AttemptResult fits = bounded(completed("12345678"), 8);
  EXPECT_EQ(fits.outcome, Outcome::completed);
  EXPECT_EQ(fits.result, "12345678");
  const AttemptResult large = bounded(completed("123456789"), 8);
  EXPECT_EQ(large.outcome, Outcome::failed);
  EXPECT_EQ(large.error_code, "result_too_large");
  EXPECT_EQ(large.error, "the result has 9 bytes, allowed are 8");
  EXPECT_FALSE(large.retryable);
  EXPECT_EQ(large.result, "") << "never cut, never sent";
  EXPECT_EQ(large.id, JobId("a"));
  EXPECT_EQ(large.fence, (Fence{7, 3}));
}

TEST(Bounded, only_a_completed_attempt_has_a_result) {
  for (const Outcome outcome : {Outcome::failed, Outcome::cancelled, Outcome::handed_back}) {
    AttemptResult result = completed("left over, and longer than the bound");
    result.outcome = outcome;
    const AttemptResult sent = bounded(std::move(result), 8);
    EXPECT_EQ(sent.result, "");
    EXPECT_EQ(sent.outcome, outcome);
  }
}

TEST(Bounded, the_code_and_the_words_of_a_failure_fit_the_wire) {
  AttemptResult result = failed();
  result.error_code = "no such\xff code " + std::string(100, 'c');
  result.error = "\xff" + std::string(kErrorTextBytesMax, 'w');
  const AttemptResult sent = bounded(std::move(result), 8);
  EXPECT_EQ(sent.error_code.size(), kErrorCodeBytesMax);
  EXPECT_TRUE(sent.error_code.starts_with("no_such__code_ccc")) << sent.error_code;
  EXPECT_EQ(sent.error.size(), kErrorTextBytesMax);
  EXPECT_TRUE(sent.error.starts_with("?www")) << sent.error;
  EXPECT_EQ(bounded(failed(), 8).error_code, "failed") << "a failure has a code";
}

TEST(Bounded, a_delay_lies_between_now_and_ten_years_or_is_not_said) {
  using Delay = std::optional<std::int64_t>;
  for (const auto& [asked, sent] : {std::pair<Delay, Delay>{std::nullopt, std::nullopt},
                                    {INT64_MIN, 0},
                                    {0, 0},
                                    {1, 1},
                                    {kTenYearsMs, kTenYearsMs},
                                    {INT64_MAX, kTenYearsMs}})
    EXPECT_EQ(bounded(failed(asked), 8).retry_after_ms, sent);
}

}  // namespace
}  // namespace sluice::worker_bounded_test
