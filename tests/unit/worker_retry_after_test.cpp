#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/tasks/retry_after.h"

namespace sluice::worker_retry_after_test {
namespace {

constexpr std::int64_t kNow = 784'111'777'000;  // Sun, 06 Nov 1994 08:49:37 GMT

TEST(RetryAfterHeader, a_date_is_read_in_each_of_its_three_forms) {
  for (const char* date : {"Sun, 06 Nov 1994 08:49:47 GMT",
                           "Sunday, 06-Nov-94 08:49:47 GMT",
                           "Sun Nov  6 08:49:47 1994"})
    EXPECT_EQ(parse_retry_after(date, kNow), 10'000) << date;
}

TEST(RetryAfterHeader, the_wait_for_a_date_counts_from_the_millisecond_that_it_is) {
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:38 GMT", kNow + 1), 999);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", kNow), 0);
  EXPECT_EQ(parse_retry_after("Fri, 01 Jan 1960 00:00:00 GMT", kNow), 0);
}

TEST(RetryAfterHeader, nothing_is_longer_than_ten_years) {
  EXPECT_EQ(parse_retry_after("315360000", kNow), kTenYearsMs);
  EXPECT_EQ(parse_retry_after("315360001", kNow), kTenYearsMs);
  EXPECT_EQ(parse_retry_after(std::string(10'000, '9'), kNow), kTenYearsMs);
  EXPECT_EQ(parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", kNow), kTenYearsMs);
}

TEST(RetryAfterHeader, seconds_are_whole_and_may_begin_with_zeros) {
  EXPECT_EQ(parse_retry_after("0", kNow), 0);
  EXPECT_EQ(parse_retry_after("007", kNow), 7000);
  for (const char* text : {"1.5", "+5", "0x10", "2h"})
    EXPECT_EQ(parse_retry_after(text, kNow), std::nullopt) << text;
}

TEST(RetryAfterHeader, what_is_neither_says_nothing) {
  for (const char* text :
       {"", " ", "a little later", "Sun, 99 Nov 1994 08:49:47 GMT", "in 5 minutes"})
    EXPECT_EQ(parse_retry_after(text, kNow), std::nullopt) << text;
}

}  // namespace
}  // namespace sluice::worker_retry_after_test
