// What producer_cli_test.cpp leaves open of it.
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "producer/cli/text.h"

namespace sluice::cli::producer_text_test {
namespace {

TEST(CliText, a_span_changes_its_unit_where_the_next_begins) {
  constexpr std::int64_t kHourMs = 3'600'000;
  const std::vector<std::pair<std::int64_t, const char*>> spans = {
      {0, "0 ms"},
      {999, "999 ms"},
      {1'000, "1.0 s"},
      {59'999, "59.9 s"},
      {60'000, "1 min 0 s"},
      {kHourMs - 1, "59 min 59 s"},
      {kHourMs, "1 h 0 min"},
      {48 * kHourMs - 1, "47 h 59 min"},
      {48 * kHourMs, "2 d 0 h"}};
  for (const auto& [ms, text] : spans)
    EXPECT_EQ(span_text(ms), text);
  EXPECT_EQ(relative_time(5, 5), "0 ms ago");
}

TEST(CliText, bytes_have_a_decimal_below_ten_of_a_unit) {
  const std::vector<std::pair<std::int64_t, const char*>> sizes = {
      {0, "0 B"},
      {1'023, "1023 B"},
      {1'024, "1.0 KiB"},
      {10'239, "10 KiB"},
      {34 << 20, "34 MiB"},
      {(1 << 30) - 1, "1.0 GiB"},
      {std::int64_t{3} << 29, "1.5 GiB"},
      {INT64_MAX, "8388608 TiB"}};
  for (const auto& [bytes, text] : sizes)
    EXPECT_EQ(bytes_text(bytes), text);
}

TEST(CliText, a_time_is_of_the_zone_of_tz) {
  const char* before = std::getenv("TZ");  // NOLINT(concurrency-mt-unsafe)
  const std::string zone = before == nullptr ? "" : before;
  ::setenv("TZ", "UTC-2", 1);  // two hours ahead of it
  ::tzset();
  EXPECT_EQ(local_time(1'764'025'200'007), "2025-11-25 01:00:00.007");
  before == nullptr ? ::unsetenv("TZ") : ::setenv("TZ", zone.c_str(), 1);
  ::tzset();
}

TEST(CliText, the_milliseconds_of_a_time_before_1970_count_forward_too) {
  EXPECT_EQ(local_time(-1).substr(16), ":59.999");
  EXPECT_EQ(local_time(-1'000).substr(16), ":59.000");
  EXPECT_EQ(local_time(-1'001).substr(16), ":58.999");
  EXPECT_EQ(local_time(0).substr(16), ":00.000");
}

TEST(CliText, a_state_is_coloured_only_when_asked_and_the_colour_ends) {
  EXPECT_EQ(state_text(JobState::failed, false), "failed");
  EXPECT_EQ(state_text(JobState::failed, true), "\x1b[31mfailed\x1b[0m");
  EXPECT_EQ(state_text(JobState::queued, true), "queued");
}

TEST(CliText, columns_are_as_wide_as_what_they_show) {
  Table table({"a", ">number", "b"});
  EXPECT_TRUE(table.empty());
  table.add({"\u00e4\u00e4\u00e4", "7", ""});
  table.add({"x", "", "end"});
  EXPECT_FALSE(table.empty());
  EXPECT_EQ(table.str(false),
            "a    number  b\n"
            "\u00e4\u00e4\u00e4       7\n"
            "x            end\n");
  EXPECT_EQ(table.str(true).substr(0, 22), "\x1b[1ma    number  b\x1b[0m");
}

TEST(CliText, a_progress_bar_is_full_only_at_the_end) {
  EXPECT_EQ(progress_bar(0, 3), "[..............................]   0 %");
  EXPECT_EQ(progress_bar(999, 1'000), "[#############################.]  99 %");
  EXPECT_EQ(progress_bar(1'000, 1'000), "[##############################] 100 %");
}

// As in a script: its stderr holds errors and nothing else.
TEST(CliText, a_progress_line_that_nobody_sees_says_nothing) {
  testing::internal::CaptureStderr();
  {
    ProgressLine line;
    EXPECT_FALSE(line.is_terminal());
    EXPECT_FALSE(line.is_due());
    line.show("half");
    line.clear();
    line.show("all");
    print_error("an error\n");
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "an error\n");
}

}  // namespace
}  // namespace sluice::cli::producer_text_test
