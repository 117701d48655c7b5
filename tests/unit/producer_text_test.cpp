// What producer_cli_test.cpp leaves open of it.
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "producer/cli/text.h"

namespace sluice::cli {
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

TEST(CliText, every_control_character_but_tab_and_newline_is_shown) {
  for (int c = 0; c < 0x20; ++c) {
    const std::string text(1, static_cast<char>(c));
    EXPECT_EQ(printable(text) == text, c == '\t' || c == '\n') << c;
  }
  EXPECT_EQ(printable(std::string("\0\r\x7f", 3)), "\\x00\\x0d\\x7f");
  EXPECT_EQ(printable("l\u00e4ng \u20ac"), "l\u00e4ng \u20ac");
}

// U+009B begins a sequence as ESC [ does; a terminal that is not of UTF-8 takes the byte alone so.
TEST(CliText, the_control_characters_above_ascii_are_shown_too) {
  for (int c = 0x80; c <= 0xff; ++c) {
    const std::string byte(1, static_cast<char>(c));
    EXPECT_EQ(printable(byte)[0], '\\') << c;
    if (c > 0xbf) continue;
    const std::string text = "\xc2" + byte;
    EXPECT_EQ(printable(text) == text, c > 0x9f) << c;
  }
  EXPECT_EQ(printable("a\xc2\x9b"
                      "2Jb\x9b"
                      "c\xc2"),
            "a\\xc2\\x9b2Jb\\x9bc\\xc2");
  EXPECT_EQ(printable("\xe0\x82\x9b"), "\\xe0\\x82\\x9b") << "U+009B written over-long";
  EXPECT_EQ(printable("\u00a0\u2014\U0001f600"), "\u00a0\u2014\U0001f600")
      << "bytes 80 to 9f within";
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
}  // namespace sluice::cli
