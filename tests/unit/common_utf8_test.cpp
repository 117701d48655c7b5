#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/utf8.h"

namespace sluice::common_utf8_test {
namespace {

TEST(Utf8, utf8_is_what_the_standard_calls_well_formed) {
  const std::vector<std::pair<std::string, bool>> cases = {
      {"", true},
      {std::string(1, '\0'), true},
      {"\x7f", true},
      {"\x80", false},
      {"\xc1\xbf", false},  // over-long
      {"\xc2\x80", true},
      {"\xdf\xbf", true},
      {"\xc2\x7f", false},
      {"\xc2\xc0", false},
      {"\xe0\x9f\xbf", false},  // over-long
      {"\xe0\xa0\x80", true},
      {"\xed\x9f\xbf", true},
      {"\xed\xa0\x80", false},  // a surrogate
      {"\xee\x80\x80", true},
      {"\xef\xbf\xbf", true},
      {"\xe2\x82\xc0", false},
      {"\xf0\x8f\xbf\xbf", false},  // over-long
      {"\xf0\x90\x80\x80", true},
      {"\xf4\x8f\xbf\xbf", true},
      {"\xf4\x90\x80\x80", false},  // above U+10FFFF
      {"\xf5\x80\x80\x80", false},
      {"\xf0\x90\x80\x7f", false},
      {"\xff", false}};
  for (const auto& [text, is_good] : cases)
    EXPECT_EQ(is_utf8(text), is_good) << testing::PrintToString(text);
}

// Eight characters are looked at together: the place must not matter.
TEST(Utf8, a_wrong_byte_is_found_wherever_it_stands) {
  for (std::size_t size = 1; size <= 25; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      std::string text(size, 'x');
      text[at] = '\xff';
      EXPECT_FALSE(is_utf8(text)) << at << " of " << size;
      text = text.substr(0, at) + "\u20ac" + text.substr(at);
      text[at + 3] = 'x';
      EXPECT_TRUE(is_utf8(text)) << at << " of " << size;
      EXPECT_FALSE(is_utf8(text.substr(0, at + 2))) << "cut off at " << at;
    }
  }
}

TEST(Utf8, a_character_is_measured_whole_or_not_at_all) {
  EXPECT_EQ(utf8_character(""), 0U);
  EXPECT_EQ(utf8_character("az"), 1U);
  EXPECT_EQ(utf8_character("\u00e4z"), 2U);
  EXPECT_EQ(utf8_character("\u20acz"), 3U);
  EXPECT_EQ(utf8_character("\U0001f600z"), 4U);
  EXPECT_EQ(utf8_character("\xe2\x82"), 0U) << "cut off";
  EXPECT_EQ(utf8_character("\x82\xac"), 0U) << "begins in the middle";
}

TEST(Utf8, is_cut_before_the_character_that_passes_the_bound) {
  const std::string text = "a\u20ac\U0001f600";  // 1 + 3 + 4 bytes
  const std::vector<std::size_t> sizes = {0, 1, 1, 1, 4, 4, 4, 4, 8, 8};
  for (std::size_t bytes_max = 0; bytes_max < sizes.size(); ++bytes_max)
    EXPECT_EQ(utf8_head(text, bytes_max), text.substr(0, sizes[bytes_max])) << bytes_max;
  EXPECT_EQ(utf8_head("\x80\x80", 1), "") << "no UTF-8, but no harm either";
}

TEST(Utf8, every_control_character_but_tab_and_newline_is_shown) {
  for (int c = 0; c < 0x20; ++c) {
    const std::string text(1, static_cast<char>(c));
    EXPECT_EQ(printable(text) == text, c == '\t' || c == '\n') << c;
  }
  EXPECT_EQ(printable(std::string("\0\r\x7f", 3)), "\\x00\\x0d\\x7f");
  EXPECT_EQ(printable("l\u00e4ng \u20ac"), "l\u00e4ng \u20ac");
}

// U+009B begins a sequence as ESC [ does; a terminal that is not of UTF-8 takes the byte alone so.
TEST(Utf8, the_control_characters_above_ascii_are_shown_too) {
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

}  // namespace
}  // namespace sluice::common_utf8_test
