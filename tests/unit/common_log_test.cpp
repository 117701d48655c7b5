#include <limits>

#include <gtest/gtest.h>

#include "common/log.h"

namespace sluice::common_log_test {
namespace {

namespace log = sluice::log;
using log::Format;
using log::Level;

TEST(Log, a_logfmt_line_is_level_event_and_pairs) {
  EXPECT_EQ(log::format_line(Format::logfmt,
                             Level::info,
                             "job_failed",
                             {{"job", "a1"}, {"attempt", 3}, {"share", 0.5}, {"is_final", true}}),
            "info job_failed job=a1 attempt=3 share=0.5 is_final=true");
}

TEST(Log, a_value_with_spaces_quotes_or_line_ends_is_quoted) {
  EXPECT_EQ(log::format_line(Format::logfmt,
                             Level::warn,
                             "e",
                             {{"a", "x y"}, {"b", "say \"no\"\n"}, {"c", ""}, {"d", "k=v"}}),
            "warn e a=\"x y\" b=\"say \\\"no\\\"\\n\" c=\"\" d=\"k=v\"");
}

TEST(Log, a_json_line_is_one_object) {
  EXPECT_EQ(
      log::format_line(Format::json,
                       Level::error,
                       "store_lost",
                       {{"where", "unix \"x\""}, {"count", 7}, {"is_final", false}}),
      "{\"level\":\"error\",\"event\":\"store_lost\",\"where\":\"unix \\\"x\\\"\",\"count\":7,"
      "\"is_final\":false}");
}

TEST(Log, bytes_that_are_not_utf8_are_replaced) {
  EXPECT_EQ(log::format_line(Format::json, Level::info, "e", {{"a", "\xc3\xa9\xff"}}),
            "{\"level\":\"info\",\"event\":\"e\",\"a\":\"\xc3\xa9\xef\xbf\xbd\"}");
}

TEST(Log, json_has_no_word_for_what_is_not_a_number) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(log::format_line(Format::json, Level::info, "e", {{"a", nan}}),
            "{\"level\":\"info\",\"event\":\"e\",\"a\":null}");
}

TEST(Log, repeats_above_the_limit_are_counted_and_told_in_the_next_second) {
  log::RepeatLimit limit(2);
  EXPECT_TRUE(limit.admit("e", 1000).is_written);
  EXPECT_TRUE(limit.admit("e", 1100).is_written);
  EXPECT_FALSE(limit.admit("e", 1200).is_written);
  EXPECT_FALSE(limit.admit("e", 1999).is_written);
  const auto verdict = limit.admit("e", 2000);
  EXPECT_TRUE(verdict.is_written);
  EXPECT_EQ(verdict.suppressed_count, 2u);
  EXPECT_EQ(limit.admit("e", 2001).suppressed_count, 0u);
}

TEST(Log, the_limit_is_per_event_name) {
  log::RepeatLimit limit(1);
  EXPECT_TRUE(limit.admit("a", 0).is_written);
  EXPECT_FALSE(limit.admit("a", 1).is_written);
  EXPECT_TRUE(limit.admit("b", 2).is_written);
}

TEST(Log, what_is_written_reaches_stderr_with_utc_time) {
  log::set_up({.level = Level::info, .format = Format::logfmt, .repeats_per_second_max = 0});
  testing::internal::CaptureStderr();
  log::info("job_done", {{"job", "{} %v"}});
  log::debug("not_shown");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(text.ends_with("Z info job_done job=\"{} %v\"\n")) << text;
  EXPECT_EQ(text.find("not_shown"), std::string::npos);
}

TEST(Log, a_json_line_carries_its_time_inside_the_object) {
  log::set_up({.level = Level::info, .format = Format::json, .repeats_per_second_max = 0});
  testing::internal::CaptureStderr();
  log::info("job_done", {{"job", "a"}});
  const std::string text = testing::internal::GetCapturedStderr();
  log::set_up({});
  EXPECT_TRUE(text.starts_with("{\"time\":\"2")) << text;
  EXPECT_TRUE(text.ends_with("Z\",\"level\":\"info\",\"event\":\"job_done\",\"job\":\"a\"}\n"))
      << text;
}

TEST(Log, level_and_format_are_read_from_their_names_only) {
  Level level = Level::info;
  EXPECT_TRUE(log::parse_level("debug", level));
  EXPECT_EQ(level, Level::debug);
  EXPECT_FALSE(log::parse_level("loud", level));
  EXPECT_EQ(level, Level::debug);
  Format format = Format::logfmt;
  EXPECT_TRUE(log::parse_format("json", format));
  EXPECT_FALSE(log::parse_format("xml", format));
  EXPECT_EQ(format, Format::json);
}

}  // namespace
}  // namespace sluice::common_log_test
