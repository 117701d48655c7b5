#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <gtest/gtest.h>
#include <hiredis/hiredis.h>

#include "broker/store/redis_reply.h"

namespace sluice::broker_redis_reply_test {
namespace {

using namespace std::string_literals;

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};

using ReplyPtr = std::unique_ptr<redisReply, FreeReply>;

struct FreeReader {
  void operator()(redisReader* reader) const { redisReaderFree(reader); }
};

// What hiredis makes of these bytes of a Redis.
ReplyPtr reply_of(const std::string& bytes) {
  const std::unique_ptr<redisReader, FreeReader> reader(redisReaderCreate());
  void* reply = nullptr;
  redisReaderFeed(reader.get(), bytes.data(), bytes.size());
  if (redisReaderGetReply(reader.get(), &reply) != REDIS_OK || reply == nullptr)
    throw std::runtime_error("no reply: " + bytes);
  return ReplyPtr(static_cast<redisReply*>(reply));
}

std::string bulk(std::string_view bytes) {
  return "$" + std::to_string(bytes.size()) + "\r\n" + std::string(bytes) + "\r\n";
}

template <typename... Items>
std::string array(const Items&... items) {
  return "*" + std::to_string(sizeof...(items)) + "\r\n" + (""s + ... + items);
}

const std::string kNil = "$-1\r\n";
const std::string kNilArray = "*-1\r\n";

TEST(RedisReply, every_kind_has_a_text_and_what_has_none_is_empty) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {bulk("hello"), "hello"},
      {bulk(""), ""},
      {bulk("a\0b"s), "a\0b"s},
      {"+OK\r\n", "OK"},
      {":42\r\n", "42"},
      {":-1\r\n", "-1"},
      {"-OOM command not allowed\r\n", "OOM command not allowed"},
      {kNil, ""},
      {array(bulk("inner")), ""},
  };
  for (const auto& [bytes, text] : cases)
    EXPECT_EQ(text_of(reply_of(bytes).get()), text) << bytes;
  EXPECT_EQ(text_of(nullptr), "");
}

TEST(RedisReply, an_element_is_read_by_its_place_and_beyond_there_is_nothing) {
  const ReplyPtr reply = reply_of(array(bulk("a"), ":7\r\n", kNil));
  EXPECT_EQ(text_at(reply.get(), 0), "a");
  EXPECT_EQ(text_at(reply.get(), 1), "7");
  EXPECT_EQ(number_at(reply.get(), 1), 7U);
  for (const std::size_t place : {2U, 3U, 1000U}) {
    EXPECT_EQ(text_at(reply.get(), place), "") << place;
    EXPECT_EQ(number_at(reply.get(), place), 0U) << place;
  }
  for (const std::string& other : {bulk("abc"), kNil, kNilArray, "*0\r\n"s})
    EXPECT_EQ(text_at(reply_of(other).get(), 0), "") << other;
  EXPECT_EQ(text_at(nullptr, 0), "");
}

TEST(RedisReply, a_number_that_is_none_or_too_great_is_zero) {
  EXPECT_EQ(number_of_text("18446744073709551615"), UINT64_MAX);
  for (const char* none : {"", "x", "-1", " 1", "18446744073709551616"})
    EXPECT_EQ(number_of_text(none), 0U) << none;
}

TEST(RedisReply, meta_is_read_from_its_place_on) {
  const StoreMeta meta = meta_at(
      reply_of(array(":1\r\n", bulk("2"), bulk("77"), bulk("b1"), bulk("5"), bulk("4"))).get(),
      1);
  EXPECT_TRUE(meta.exists);
  EXPECT_EQ(meta.layout, 2U);
  EXPECT_EQ(meta.epoch, 77U);
  EXPECT_EQ(meta.owner, "b1");
  EXPECT_EQ(meta.last, 5U);
  EXPECT_EQ(meta.checkpoint, 4U);
}

TEST(RedisReply, a_redis_without_an_epoch_has_no_meta) {
  for (const std::string& bytes :
       {array(kNil, kNil, kNil, kNil, kNil), array(bulk("1"), bulk("0"), bulk("b1")), kNilArray}) {
    const StoreMeta meta = meta_at(reply_of(bytes).get(), 0);
    EXPECT_FALSE(meta.exists) << bytes;
    EXPECT_EQ(meta.last, 0U) << bytes;
  }
}

TEST(RedisReply, entries_of_the_log_have_their_number_and_their_bytes) {
  const std::string blob = "\x86\0\r\n\xff"s;
  const auto entries =
      entries_of(reply_of(array(array(bulk("5-0"), array(bulk("b"), bulk(blob))),
                                array(bulk("18446744073709551615-0"), array(bulk("b"), bulk("")))))
                     .get());
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0]->n, 5U);
  EXPECT_EQ(entries[0]->blob, blob);
  EXPECT_EQ(entries[1]->n, UINT64_MAX);
  EXPECT_EQ(entries[1]->blob, "");
}

// An empty blob is a malformed entry, which its reader says.
TEST(RedisReply, an_entry_without_a_field_is_kept_and_empty) {
  for (const std::string& odd :
       {array(bulk("5-0")), array(bulk("5-0"), kNilArray), array(bulk("5-0"), array(bulk("b")))}) {
    const auto entries = entries_of(reply_of(array(odd)).get());
    ASSERT_EQ(entries.size(), 1U) << odd;
    EXPECT_EQ(entries[0]->n, 5U) << odd;
    EXPECT_EQ(entries[0]->blob, "") << odd;
  }
  for (const std::string& none : {bulk("5-0"), kNilArray, "*0\r\n"s})
    EXPECT_TRUE(entries_of(reply_of(none).get()).empty()) << none;
  EXPECT_TRUE(entries_of(nullptr).empty());
}

TEST(RedisReply, fields_come_in_pairs_and_in_order) {
  const FieldPairs expected = {{"state", "queued"}, {"payload", "\0\xff"s}};
  EXPECT_EQ(
      pairs_of(
          reply_of(array(bulk("state"), bulk("queued"), bulk("payload"), bulk("\0\xff"s))).get()),
      expected);
  EXPECT_EQ(pairs_of(reply_of(array(bulk("state"), bulk("queued"), bulk("odd"))).get()),
            (FieldPairs{{"state", "queued"}}));
  for (const std::string& none : {bulk("state"), kNilArray, "*0\r\n"s})
    EXPECT_TRUE(pairs_of(reply_of(none).get()).empty()) << none;
  EXPECT_TRUE(pairs_of(nullptr).empty());
}

}  // namespace
}  // namespace sluice::broker_redis_reply_test
