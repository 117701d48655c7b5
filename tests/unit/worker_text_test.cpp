#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/ids.h"
#include "common/limits.h"
#include "worker/core/text.h"

namespace sluice::worker_text_test {
namespace {

TEST(WorkerText, the_first_and_last_character_of_every_length_stay) {
  for (const char* character : {"\x7e",
                                "\xc2\xa0",  // before it: control characters
                                "\xdf\xbf",
                                "\xe0\xa0\x80",
                                "\xed\x9f\xbf",
                                "\xee\x80\x80",
                                "\xf0\x90\x80\x80",
                                "\xf4\x8f\xbf\xbf"}) {
    const std::string text = std::string(character) + "!";
    EXPECT_EQ(clean_text(text, 100), text) << testing::PrintToString(text);
  }
}

TEST(WorkerText, what_looks_like_a_character_and_is_none_becomes_one_mark_a_byte) {
  for (const char* broken : {"\x80",              // a middle without a head
                             "\xc0\xaf",          // two bytes for what takes one
                             "\xe0\x9f\xbf",      // three for what takes two
                             "\xf0\x8f\xbf\xbf",  // four for what takes three
                             "\xed\xa0\x80",      // half of a pair of UTF-16
                             "\xf4\x90\x80\x80",  // beyond the last character
                             "\xf8"}) {
    const std::string text(broken);
    EXPECT_EQ(clean_text(text + "!", 100), std::string(text.size(), '?') + "!")
        << testing::PrintToString(text);
  }
  EXPECT_EQ(clean_text("\xe2\x82", 100), "??") << "the end came before the character's";
  EXPECT_EQ(clean_text("\xe2\x82z", 100), "??z");
}

TEST(WorkerText, nothing_that_steers_a_terminal_passes_but_lines_and_tabs_do) {
  EXPECT_EQ(clean_text("a\tb\nc\r\x1b[31m\x7f", 100), "a\tb\nc??[31m?");
  EXPECT_EQ(clean_text("a\u009b31m", 100), "a?31m") << "begins a sequence as ESC [ does";
}

TEST(WorkerText, is_cut_at_its_bound_and_before_the_character_that_passes_it) {
  const std::string euros = "\xe2\x82\xac\xe2\x82\xac";
  EXPECT_EQ(clean_text(euros, 6), euros);
  EXPECT_EQ(clean_text(euros, 5), "\xe2\x82\xac");
  EXPECT_EQ(clean_text(euros + "a", 5), "\xe2\x82\xac") << "no hole in the middle";
  EXPECT_EQ(clean_text("abc", 2), "ab");
  EXPECT_EQ(clean_text("abc", 0), "");
}

TEST(WorkerText, every_code_is_a_name) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string code(1, static_cast<char>(byte));
    EXPECT_TRUE(is_name(clean_code(code))) << byte;
    EXPECT_EQ(clean_code(code) == code, is_name(code)) << byte;
  }
  EXPECT_EQ(clean_code(std::string(kErrorCodeBytesMax, 'e')), std::string(kErrorCodeBytesMax, 'e'));
  EXPECT_EQ(clean_code(std::string(kErrorCodeBytesMax + 1, 'e')).size(), kErrorCodeBytesMax);
}

}  // namespace
}  // namespace sluice::worker_text_test
