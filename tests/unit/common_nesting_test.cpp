#include <string>

#include <gtest/gtest.h>

#include "common/nesting.h"

namespace sluice {

namespace {

std::string repeated(const std::string& text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i)
    all += text;
  return all;
}

TEST(Nesting, json_has_so_many_levels_and_no_more) {
  for (const auto& [open, close] : {std::pair("[", "]"), {"{\"a\":", "}"}}) {
    const std::string text = repeated(open, 7) + "1" + repeated(close, 7);
    EXPECT_TRUE(is_json_within(text, 7)) << open;
    EXPECT_FALSE(is_json_within(text, 6)) << open;
  }
  EXPECT_TRUE(is_json_within("[[],[],{}]", 2));
  EXPECT_FALSE(is_json_within(std::string(1 << 20, '['), 1000));
}

TEST(Nesting, brackets_in_a_text_are_none) {
  EXPECT_TRUE(is_json_within("[\"\\\"[[[\"]", 1));
  EXPECT_TRUE(is_json_within("{\"[[[\":\"\\\\\",\"b\":\"{\"}", 1));
}

// worker_payload_test.cpp has every width of msgpack.
TEST(Nesting, msgpack_has_so_many_levels_and_no_more) {
  EXPECT_TRUE(is_msgpack_within(std::string(7, '\x91') + '\x01', 7));
  EXPECT_FALSE(is_msgpack_within(std::string(7, '\x91') + '\x01', 6));
  EXPECT_FALSE(is_msgpack_within(std::string(1 << 20, '\x91'), 1000));
  EXPECT_TRUE(is_msgpack_within("\x93\x90\x90\x80", 2));
  EXPECT_FALSE(is_msgpack_within("\x92\x01", 9)) << "one of two";
}

}  // namespace

}  // namespace sluice
