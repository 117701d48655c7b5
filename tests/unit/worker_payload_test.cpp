#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/payload.h"

#include <nlohmann/json.hpp>

namespace sluice::worker_payload_test {
namespace {

using nlohmann::json;

constexpr const char* kJson = "application/json";
constexpr const char* kMsgpack = "application/msgpack";

std::string packed(const json& value) {
  const std::vector<std::uint8_t> bytes = json::to_msgpack(value);
  return {bytes.begin(), bytes.end()};
}

std::string repeated(std::string_view text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i)
    all += text;
  return all;
}

TEST(Payload, the_content_type_says_whether_it_is_json_or_msgpack) {
  EXPECT_EQ(payload_as_json("application/json; charset=utf-8", R"({"n":7})"), json({{"n", 7}}));
  EXPECT_EQ(payload_as_json(kMsgpack, packed({{"n", 7}})), json({{"n", 7}}));
  EXPECT_EQ(payload_as_json("", packed("text")), json("text"));
  EXPECT_FALSE(payload_as_json("text/plain", R"({"n":7})"));
  EXPECT_FALSE(payload_as_json(kJson, packed({{"n", 7}})));
}

TEST(Payload, what_is_neither_is_nothing_and_throws_nothing) {
  for (const char* text : {"", "{", "{} {}", "[1,]", "nul", "\"\xff\"", "1e999"})
    EXPECT_FALSE(payload_as_json(kJson, text)) << text;
  for (const std::string& bytes : {std::string(),
                                   std::string("\xc1"),      // no such head
                                   std::string("\x92\x01"),  // one of two
                                   std::string("\xa5hell"),  // a byte short
                                   std::string("\x01\x02"),  // one too many
                                   std::string("\xdd\xff\xff\xff\xff"),
                                   std::string("\xdb\xff\xff\xff\xffx")})
    EXPECT_FALSE(payload_as_json(kMsgpack, bytes)) << testing::PrintToString(bytes);
}

TEST(Payload, may_be_nested_32_deep_and_no_deeper) {
  const auto is_taken = [](const char* type, const std::string& head, const std::string& tail) {
    const auto nested = [&](std::size_t depth) {
      return repeated(head, depth) + (type == kJson ? "1" : "\x01") + repeated(tail, depth);
    };
    return std::pair(payload_as_json(type, nested(32)).has_value(),
                     payload_as_json(type, nested(33)).has_value());
  };
  EXPECT_EQ(is_taken(kJson, "[", "]"), std::pair(true, false));
  EXPECT_EQ(is_taken(kJson, "{\"a\":", "}"), std::pair(true, false));
  EXPECT_EQ(is_taken(kMsgpack, "\x91", ""), std::pair(true, false));
  EXPECT_EQ(is_taken(kMsgpack, "\x81\xa1k", ""), std::pair(true, false));
  EXPECT_FALSE(payload_as_json(kMsgpack, std::string(kPayloadBytesMax, '\x91')));
  for (const char* empty : {"\x90", "\x80"}) {
    EXPECT_TRUE(payload_as_json(kMsgpack, repeated("\x91", 31) + empty));
    EXPECT_FALSE(payload_as_json(kMsgpack, repeated("\x91", 32) + empty)) << "as [] in JSON";
  }
}

TEST(Payload, what_is_beside_each_other_or_in_a_text_is_no_nesting) {
  EXPECT_TRUE(payload_as_json(kJson, "[" + repeated("[],", 100) + "1]"));
  EXPECT_TRUE(payload_as_json(kJson, "[\"\\\"" + std::string(100, '[') + "\"]"));
  EXPECT_TRUE(payload_as_json(kMsgpack, packed(json::array({std::string(100, '\x11')}))));
  EXPECT_TRUE(payload_as_json(kMsgpack, "\xdc" + std::string("\0\x64", 2) + repeated("\x90", 100)));
}

// A width of the walk that is off by one refuses what the library would take.
TEST(Payload, every_form_of_msgpack_is_taken_wherever_it_stands) {
  std::vector<json> values{nullptr, true, false, 0.5, 0.1, -1, -33, -200, -40'000, -3'000'000'000};
  for (const std::uint64_t number : {127ULL, 200ULL, 40'000ULL, 3'000'000'000ULL, 5'000'000'000ULL})
    values.emplace_back(number);
  for (const std::size_t size : {0U, 1U, 2U, 4U, 8U, 15U, 16U, 31U, 32U, 255U, 256U, 70'000U}) {
    const std::vector<std::uint8_t> bytes(size, 0xc1);
    values.emplace_back(std::string(size, 's'));
    values.emplace_back(json::binary(bytes));
    values.emplace_back(json::binary(bytes, 5));  // an extension of type 5
    values.emplace_back(std::vector<int>(size, 1));
    json map = json::object();
    for (std::size_t i = 0; i < std::min<std::size_t>(size, 256); ++i)
      map[std::to_string(i)] = nullptr;
    values.push_back(std::move(map));
  }
  for (const json& value : values) {
    const json list = json::array({value, "end"});
    EXPECT_TRUE(payload_as_json(kMsgpack, packed(list)) == list)
        << value.type_name() << " of " << value.size();
  }
  const std::string wide_map("\xdf\0\0\0\1\xa1k\xc0", 8);
  EXPECT_EQ(payload_as_json(kMsgpack, wide_map), json({{"k", nullptr}}));
}

TEST(Payload, a_scalar_is_text_as_json_writes_it_and_a_string_as_it_is) {
  for (const auto& [value, text] :
       {std::pair<json, std::string>{"AAPL", "AAPL"},
        {"", ""},
        {"\"q\"", "\"q\""},
        {5, "5"},
        {-7, "-7"},
        {std::numeric_limits<std::uint64_t>::max(), "18446744073709551615"},
        {0.5, "0.5"},
        {true, "true"},
        {false, "false"}})
    EXPECT_EQ(scalar_text(value), text);
  for (const json& value : {json(), json::array(), json::object(), json::binary({1})})
    EXPECT_EQ(scalar_text(value), std::nullopt) << value.type_name();
}

}  // namespace
}  // namespace sluice::worker_payload_test
