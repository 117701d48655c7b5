#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "broker/store/redis_address.h"

namespace sluice::broker_redis_address_test {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(RedisAddress, has_what_is_written_and_defaults_for_the_rest) {
  const std::vector<std::pair<std::string, RedisAddress>> cases = {
      {"unix:///run/redis.sock", {.path = "/run/redis.sock", .host = {}, .user = {}}},
      {"unix:///a@b:1/c", {.path = "/a@b:1/c", .host = {}, .user = {}}},
      {"redis://h", {.path = {}, .host = "h", .user = {}}},
      {"redis://h/", {.path = {}, .host = "h", .user = {}}},
      {"redis://h:1/15", {.path = {}, .host = "h", .port = 1, .user = {}, .db = 15}},
      {"redis://h:65535", {.path = {}, .host = "h", .port = 65'535, .user = {}}},
      {"redis://me@h/2", {.path = {}, .host = "h", .user = "me", .db = 2}},
      {"redis://a@b@h", {.path = {}, .host = "h", .user = "a@b"}},
      {"redis://[::1]", {.path = {}, .host = "::1", .user = {}}},
      {"redis://me@[fe80::1]:6380/3",
       {.path = {}, .host = "fe80::1", .port = 6380, .user = "me", .db = 3}},
      {"redis://h/1000000", {.path = {}, .host = "h", .user = {}, .db = 1'000'000}},
  };
  for (const auto& [text, expected] : cases) {
    const auto address = parse_redis_address(text);
    ASSERT_TRUE(address) << text << ": " << address.error().detail;
    EXPECT_EQ(address->path, expected.path) << text;
    EXPECT_EQ(address->host, expected.host) << text;
    EXPECT_EQ(address->port, expected.port) << text;
    EXPECT_EQ(address->user, expected.user) << text;
    EXPECT_EQ(address->db, expected.db) << text;
  }
}

TEST(RedisAddress, what_is_wrong_is_named_with_the_text_and_the_form) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not an address of a Redis"},
      {"localhost:6379", "not an address of a Redis"},
      {"Redis://h", "not an address of a Redis"},
      {"unix://", "no absolute path"},
      {"unix://redis.sock", "no absolute path"},
      {"redis://", "no host"},
      {"redis://:6379", "no host"},
      {"redis:///1", "no host"},
      {"redis://[]", "no host"},
      {"redis://h:", "not a port"},
      {"redis://h:0", "not a port"},
      {"redis://h:-1", "not a port"},
      {"redis://h:65536", "not a port"},
      {"redis://h:6379x", "not a port"},
      {"redis://::1", "not a port"},
      {"redis://h/1000001", "not a database"},
      {"redis://h/-1", "not a database"},
      {"redis://h/1/2", "not a database"},
  };
  for (const auto& [text, words] : cases) {
    const auto address = parse_redis_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code, ErrorCode::bad_field) << text;
    EXPECT_EQ(address.error().where, "redis");
    EXPECT_EQ(address.error().detail,
              words + ": " + text + " (unix:///path or redis://[user@]host[:port][/db])");
  }
}

TEST(RedisAddress, a_password_in_it_is_refused_and_never_repeated) {
  for (const char* text :
       {"redis://me:secret@h", "redis://:secret@h", "redis://me:x@secret@h:1/0"}) {
    const auto address = parse_redis_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code, ErrorCode::bad_field);
    EXPECT_THAT(address.error().detail, HasSubstr("SLUICE_REDIS_PASSWORD"));
    EXPECT_THAT(address.error().detail, Not(HasSubstr("secret")));
  }
  // Nor where it is no address at all.
  for (const char* text : {"rediss://me:secret@h", "redis:/me:secret@h", "redis://me@secret@h/x"}) {
    const auto address = parse_redis_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_THAT(address.error().detail, Not(HasSubstr("secret")));
  }
}

TEST(RedisAddress, of_a_socket_or_the_loopback_is_on_this_machine) {
  for (const char* here : {"unix:///run/redis.sock", "redis://127.0.0.1:1", "redis://[::1]"})
    EXPECT_TRUE(parse_redis_address(here)->is_local()) << here;
  for (const char* elsewhere : {"redis://10.0.0.1", "redis://localhost@10.0.0.1", "redis://redis"})
    EXPECT_FALSE(parse_redis_address(elsewhere)->is_local()) << elsewhere;
}

TEST(RedisAddress, a_refusal_of_plain_text_names_the_machine_and_the_option) {
  const std::string refusal = plaintext_refusal(*parse_redis_address("redis://me@10.0.0.1:7/1"));
  EXPECT_THAT(refusal, HasSubstr("10.0.0.1 is another machine"));
  EXPECT_THAT(refusal, HasSubstr("redis_plaintext = true"));
}

}  // namespace
}  // namespace sluice::broker_redis_address_test
