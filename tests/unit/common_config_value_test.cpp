#include <rapidcheck.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config_value.h"

namespace sluice::common_config_value_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Number = std::optional<std::int64_t>;

TEST(ConfigValue, a_bool_is_one_of_eight_words) {
  for (const char* word : {"true", "yes", "on", "1"})
    EXPECT_EQ(read_bool(word), true) << word;
  for (const char* word : {"false", "no", "off", "0"})
    EXPECT_EQ(read_bool(word), false) << word;
  for (const char* word : {"", "True", "y", "2", " true", "true ", "01"})
    EXPECT_EQ(read_bool(word), std::nullopt) << word;
}

TEST(ConfigValue, an_integer_is_the_whole_text_and_fits_64_bits) {
  const std::vector<std::pair<const char*, Number>> cases = {{"0", 0},
                                                             {"-5", -5},
                                                             {"007", 7},
                                                             {"9223372036854775807", INT64_MAX},
                                                             {"-9223372036854775808", INT64_MIN},
                                                             {"9223372036854775808", {}},
                                                             {"", {}},
                                                             {"-", {}},
                                                             {"+1", {}},
                                                             {" 1", {}},
                                                             {"1 ", {}},
                                                             {"1.0", {}},
                                                             {"0x10", {}}};
  for (const auto& [text, value] : cases)
    EXPECT_EQ(read_integer(text), value) << text;
}

TEST(ConfigValue, a_duration_has_one_unit_or_is_in_milliseconds) {
  const std::vector<std::pair<const char*, Number>> cases = {
      {"1500", 1500},
      {"1500ms", 1500},
      {"3s", 3'000},
      {"5m", 300'000},
      {"2h", 7'200'000},
      {"7d", 604'800'000},
      {"-3s", -3'000},
      {"106751991167d", 106'751'991'167 * 86'400'000},
      {"106751991168d", {}},  // does not fit
      {"3S", {}},
      {"3 s", {}},
      {"3s ", {}},
      {"1h30m", {}},
      {"1.5s", {}},
      {"s", {}},
      {"3min", {}},
      {"3kB", {}}};
  for (const auto& [text, value] : cases)
    EXPECT_EQ(read_duration_ms(text), value) << text;
}

TEST(ConfigValue, a_size_is_in_powers_of_1024_with_an_i_and_of_1000_without) {
  const std::vector<std::pair<const char*, Number>> cases = {
      {"512", 512},
      {"512B", 512},
      {"1kB", 1'000},
      {"1KiB", 1'024},
      {"2MB", 2'000'000},
      {"2MiB", 2'097'152},
      {"3GB", 3'000'000'000},
      {"3GiB", 3'221'225'472},
      {"8589934591GiB", 8'589'934'591LL << 30},
      {"8589934592GiB", {}},  // does not fit
      {"1KB", {}},
      {"1kib", {}},
      {"1M", {}},
      {"1TiB", {}}};
  for (const auto& [text, value] : cases)
    EXPECT_EQ(read_bytes(text), value) << text;
}

TEST(ConfigValue, what_is_shown_is_the_shortest_and_reads_back) {
  EXPECT_EQ(show_duration_ms(0), "0");
  EXPECT_EQ(show_duration_ms(1'500), "1500ms");
  EXPECT_EQ(show_duration_ms(60'000), "1m");
  EXPECT_EQ(show_duration_ms(90'000), "90s");
  EXPECT_EQ(show_duration_ms(172'800'000), "2d");
  EXPECT_EQ(show_bytes(0), "0");
  EXPECT_EQ(show_bytes(1'000), "1000") << "no kB: a person compares it with KiB";
  EXPECT_EQ(show_bytes(1'536), "1536");
  EXPECT_EQ(show_bytes(2'048), "2KiB");
  EXPECT_EQ(show_bytes(512LL << 20), "512MiB");
  EXPECT_TRUE(rc::check([](std::int64_t value) {
    const auto factor = *rc::gen::element<std::int64_t>(1, 1'000, 1'024, 60'000, 1LL << 20);
    for (const std::int64_t number : {value, value / factor * factor}) {
      RC_ASSERT(read_duration_ms(show_duration_ms(number)) == Number(number));
      RC_ASSERT(read_bytes(show_bytes(number)) == Number(number));
    }
  }));
}

TEST(ConfigValue, commas_part_texts_and_nothing_between_them_is_no_text) {
  EXPECT_THAT(split_by_commas("a,b"), ElementsAre("a", "b"));
  EXPECT_THAT(split_by_commas("  a b ,\tc,,d, "), ElementsAre("a b", "\tc", "d"));
  EXPECT_THAT(split_by_commas(""), IsEmpty());
  EXPECT_THAT(split_by_commas(" , ,,"), IsEmpty());
}

TEST(ConfigValue, a_password_is_hidden_however_carelessly_it_is_written) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"redis://user:secret@host:6379/0", "redis://user:***@host:6379/0"},
      {"redis://:secret@host", "redis://:***@host"},
      {"redis://user:se/cr@et:x@host", "redis://user:***@host"},
      {"redis://user:@host", "redis://user:***@host"},
      {"redis://user@host:6379", "redis://user@host:6379"},
      {"redis://host:6379/0", "redis://host:6379/0"},
      {"tcp://*:7711", "tcp://*:7711"},
      {"a:b@c", "a:b@c"},  // no address
      {"", ""}};
  for (const auto& [text, shown] : cases)
    EXPECT_EQ(without_password(text), shown);
}

TEST(ConfigValue, the_nearest_name_has_the_fewest_edits_and_not_too_many) {
  const std::vector<std::string> names = {"slots", "slot", "heartbeat_ms", "redis"};
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"slots", "slots"},
      {"sltt", "slot"},
      {"sots", "slots"},
      {"rediss", "redis"},
      {"re", ""},        // three edits of two letters
      {"red", "redis"},  // two
      {"hertbeatms", "heartbeat_ms"},
      {"heart", ""},
      {"heartbeat", "heartbeat_ms"},  // three edits of nine letters
      {"xyz", ""}};
  for (const auto& [wrong, near] : cases)
    EXPECT_EQ(nearest_name(wrong, names), near) << wrong;
  EXPECT_EQ(nearest_name("abc", {}), "");
  EXPECT_EQ(nearest_name("ad", std::vector<std::string>{"ab", "ac"}), "ab")
      << "of equals the first";
}

}  // namespace
}  // namespace sluice::common_config_value_test
