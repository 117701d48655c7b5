// What waits of a job's log on its node.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/core/log_buffer.h"

namespace sluice {
namespace {

using testing::EndsWith;
using testing::StartsWith;

std::string numbered(std::size_t lines) {
  std::string text;
  for (std::size_t i = 0; i < lines; ++i)
    text += "line " + std::to_string(i) + "\n";
  return text;
}

TEST(LogBuffer, gives_what_it_was_given_in_order_and_is_empty_then) {
  LogBuffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.take(), "");
  buffer.add("one\n");
  buffer.add("tw");
  EXPECT_EQ(buffer.size(), 6u);
  EXPECT_EQ(buffer.take(), "one\ntw");
  EXPECT_TRUE(buffer.empty());
  buffer.add("o\n");
  EXPECT_EQ(buffer.take(), "o\n");
}

TEST(LogBuffer, is_given_in_pieces_that_end_with_a_line) {
  const std::string text = numbered(5000);
  LogBuffer buffer;
  buffer.add(text);
  std::string all;
  while (!buffer.empty()) {
    const std::string piece = buffer.take();
    EXPECT_LE(piece.size(), kLogChunkBytesMax);
    EXPECT_THAT(piece, EndsWith("\n"));
    all += piece;
  }
  EXPECT_EQ(all, text);
}

TEST(LogBuffer, does_not_cut_a_character_of_an_endless_line) {
  std::string text = "x";
  while (text.size() < 3 * kLogChunkBytesMax)
    text += "\xe2\x82\xac";
  LogBuffer buffer;
  buffer.add(text);
  std::string all;
  while (!buffer.empty()) {
    const std::string piece = buffer.take();
    EXPECT_LE(piece.size(), kLogChunkBytesMax);
    EXPECT_EQ((all.size() + piece.size()) % 3, 1u);
    all += piece;
  }
  EXPECT_EQ(all, text);
}

TEST(LogBuffer, bytes_that_are_no_text_are_cut_anywhere) {
  const std::string text(3 * kLogChunkBytesMax, '\x80');
  LogBuffer buffer;
  buffer.add(text);
  std::string all;
  while (!buffer.empty())
    all += buffer.take();
  EXPECT_EQ(all, text);
}

TEST(LogBuffer, of_too_much_the_oldest_goes_and_a_line_says_how_much) {
  const std::string text = numbered(100'000);
  LogBuffer buffer;
  for (std::size_t at = 0; at < text.size(); at += 1000)
    buffer.add(std::string_view(text).substr(at, 1000));
  EXPECT_LE(buffer.size(), LogBuffer::kBytesMax);
  EXPECT_GT(buffer.size(), LogBuffer::kBytesMax - 1000);
  const std::string missing = std::to_string(text.size() - buffer.size());
  std::string all;
  while (!buffer.empty())
    all += buffer.take();
  const std::string head = "[sluice: " + missing + " bytes are missing here]\n";
  ASSERT_THAT(all, StartsWith(head + "line "));
  EXPECT_EQ(all.substr(head.size()), text.substr(text.size() - (all.size() - head.size())));
}

TEST(LogBuffer, more_at_once_than_it_holds_is_cut_too) {
  const std::string text = numbered(100'000);
  LogBuffer buffer;
  buffer.add("before\n");
  buffer.add(text, 1000);
  EXPECT_LE(buffer.size(), 1000u);
  const std::string missing = std::to_string(7 + text.size() - buffer.size());
  EXPECT_THAT(buffer.take(), StartsWith("[sluice: " + missing + " bytes are missing here]\nline "));
}

TEST(LogBuffer, what_is_missing_within_a_line_begins_a_new_one) {
  LogBuffer buffer;
  buffer.add("half a li");
  EXPECT_EQ(buffer.take(), "half a li");
  buffer.add("ne\nnext\n", 5);
  EXPECT_EQ(buffer.take(), "\n[sluice: 3 bytes are missing here]\nnext\n");
  EXPECT_TRUE(buffer.empty());
}

TEST(LogBuffer, of_which_everything_was_cut_says_so) {
  LogBuffer buffer;
  buffer.add("gone\n");
  buffer.cut(0);
  EXPECT_FALSE(buffer.empty());
  EXPECT_EQ(buffer.take(), "[sluice: 5 bytes are missing here]\n");
  EXPECT_TRUE(buffer.empty());
}

}  // namespace
}  // namespace sluice
