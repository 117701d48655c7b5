#include <cstdint>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config_entry.h"

namespace sluice::config::common_config_entry_test {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

// Sets the target of the entry; what was wrong, or nothing.
std::string take(const Entry& entry, const Texts& texts) {
  const Reading reading = entry.read(texts);
  if (!reading) return reading.error();
  (*reading)();
  return "";
}

TEST(ConfigEntry, a_key_has_a_flag_and_a_variable) {
  EXPECT_EQ(flag_of("heartbeat_ms"), "--heartbeat-ms");
  EXPECT_EQ(environment_of("heartbeat_ms"), "SLUICE_HEARTBEAT_MS");
  EXPECT_EQ(environment_of("node2_id"), "SLUICE_NODE2_ID");
}

// So one wrong option leaves all of them as they were.
TEST(ConfigEntry, reading_changes_nothing_before_its_commit) {
  std::int64_t number = 5;
  const Entry entry = integer_entry("n", &number, {1, 10}, "a number");
  const Reading reading = entry.read({"7"});
  ASSERT_TRUE(reading);
  EXPECT_EQ(number, 5);
  (*reading)();
  EXPECT_EQ(number, 7);
}

TEST(ConfigEntry, of_several_texts_the_last_counts) {
  std::string text, choice;
  bool flag = false;
  std::int64_t number = 0;
  EXPECT_EQ(take(text_entry("t", &text, ""), {"a", "b"}), "");
  EXPECT_EQ(take(choice_entry("c", &choice, {"x", "y"}, ""), {"z", "y"}), "");
  EXPECT_EQ(take(bool_entry("b", &flag, ""), {"maybe", "on"}), "");
  EXPECT_EQ(take(integer_entry("n", &number, {0, 9}, ""), {"100", "9"}), "");
  EXPECT_EQ(text, "b");
  EXPECT_EQ(choice, "y");
  EXPECT_TRUE(flag);
  EXPECT_EQ(number, 9);
  Texts list;
  EXPECT_EQ(take(list_entry("l", &list, ""), {"a", "b"}), "") << "a list takes all";
  EXPECT_THAT(list, ElementsAre("a", "b"));
}

TEST(ConfigEntry, both_ends_of_a_range_are_in_it) {
  std::int64_t value = 0;
  const Entry integer = integer_entry("n", &value, {-3, 10}, "");
  const Entry duration = duration_entry("d", &value, {100, 60'000}, "");
  const Entry bytes = bytes_entry("b", &value, {1 << 20, 1 << 30}, "");
  for (const auto& [entry, text] : {std::pair(&integer, "-3"),
                                    {&integer, "10"},
                                    {&duration, "100ms"},
                                    {&duration, "1m"},
                                    {&bytes, "1MiB"},
                                    {&bytes, "1GiB"}})
    EXPECT_EQ(take(*entry, {text}), "") << text;
  value = 77;
  for (const auto& [entry, text] : {std::pair(&integer, "-4"),
                                    {&integer, "11"},
                                    {&integer, "5s"},
                                    {&duration, "99"},
                                    {&duration, "60001"},
                                    {&bytes, "1048575"},
                                    {&bytes, "1073741825"},
                                    {&bytes, ""}})
    EXPECT_NE(take(*entry, {text}), "") << text;
  EXPECT_EQ(value, 77);
}

TEST(ConfigEntry, a_number_of_32_bits_is_never_cut) {
  std::uint32_t value = 1;
  const Entry entry = integer_entry("n", &value, {-5, INT64_MAX}, "");
  EXPECT_EQ(take(entry, {"4294967295"}), "");
  EXPECT_EQ(value, 4'294'967'295U);
  EXPECT_THAT(take(entry, {"4294967296"}), EndsWith("allowed: 0 to 4294967295"));
  EXPECT_THAT(take(entry, {"-1"}), EndsWith("allowed: 0 to 4294967295"));
  EXPECT_EQ(entry.show(), "4294967295");
}

TEST(ConfigEntry, a_refusal_and_the_help_say_what_is_allowed) {
  std::int64_t number = 0;
  bool flag = false;
  std::string choice;
  const Entry duration = duration_entry("d", &number, {1'000, 90'000}, "a pause");
  EXPECT_EQ(take(duration, {"2h"}),
            "'2h' is not allowed; allowed: 1s to 90s, as 300ms, 3s, 30m, 24h, 7d");
  EXPECT_EQ(duration.help, "a pause (1s to 90s)");
  const Entry open = bytes_entry("b", &number, {1'024}, "room");
  EXPECT_EQ(open.help, "room (at least 1KiB)");
  EXPECT_EQ(take(bool_entry("x", &flag, ""), {"maybe"}),
            "'maybe' is not allowed; allowed: true or false");
  const Entry words = choice_entry("c", &choice, {"debug", "info"}, "");
  EXPECT_EQ(take(words, {"Info"}), "'Info' is not allowed; allowed: debug, info");
  EXPECT_EQ(words.type, "debug|info");
}

TEST(ConfigEntry, what_is_shown_holds_no_password) {
  std::string address = "redis://u:pw@h", secret;
  Texts list = {"redis://u:pw@a", "b"};
  std::int64_t number = 0;
  EXPECT_EQ(text_entry("t", &address, "").show(), "redis://u:***@h");
  EXPECT_EQ(list_entry("l", &list, "").show(), "redis://u:***@a,b");
  const Entry hidden = secret_entry("s", &secret, "");
  EXPECT_TRUE(hidden.is_secret);
  EXPECT_EQ(hidden.show(), "(unset)");
  EXPECT_EQ(take(hidden, {"pw"}), "");
  EXPECT_EQ(hidden.show(), "(set)");
  EXPECT_EQ(secret, "pw");
  const std::string refusal = take(integer_entry("n", &number, {0, 1}, ""), {"redis://u:pw@h"});
  EXPECT_THAT(refusal, HasSubstr("'redis://u:***@h'"));
}

}  // namespace
}  // namespace sluice::config::common_config_entry_test
