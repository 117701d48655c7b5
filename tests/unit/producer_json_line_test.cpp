#include <string>

#include <gmock/gmock.h>

#include "producer/cli/json_line.h"

namespace sluice::cli {

namespace {

using testing::ElementsAre;
using testing::FieldsAre;

TEST(JsonLine, members_come_in_their_order_with_their_values_as_text) {
  const auto members = members_of(
      R"( { "task" : "t", "n": -7, "payload" : { "b" : [ 1, {"c": null}, [] ], "a":true }, "e": {} } )");
  ASSERT_TRUE(members);
  EXPECT_THAT(*members,
              ElementsAre(FieldsAre("task", R"("t")", 0U),
                          FieldsAre("n", "-7", 0U),
                          FieldsAre("payload", R"({"b":[1,{"c":null},[]],"a":true})", 6U),
                          FieldsAre("e", "{}", 0U)));
  EXPECT_TRUE(members_of("{}")->empty());
}

TEST(JsonLine, numbers_keep_their_digits) {
  for (const std::string text : {"1.10",
                                 "1e2",
                                 "1E5",
                                 "0",
                                 "-0",
                                 "-0.0",
                                 "0.1000000000000000055",
                                 "18446744073709551615",
                                 "-9223372036854775808",
                                 "123456789012345678901234567890"}) {
    const auto members = members_of("{\"p\":[" + text + "]}");
    ASSERT_TRUE(members) << text;
    EXPECT_EQ(members->front().text, "[" + text + "]");
  }
}

TEST(JsonLine, text_that_looks_like_structure_is_text) {
  const auto members = members_of(R"({"p":["{","[",":",",","\"","\\","\u0001","ü"],"{":":"})");
  ASSERT_TRUE(members);
  EXPECT_THAT(*members,
              ElementsAre(FieldsAre("p", R"(["{","[",":",",","\"","\\","\u0001","ü"])", 8U),
                          FieldsAre("{", R"(":")", 0U)));
}

TEST(JsonLine, what_is_not_one_object_is_malformed) {
  for (const std::string line : {"",
                                 " ",
                                 "7",
                                 "[]",
                                 "[{}]",
                                 "null",
                                 "{",
                                 "{}{}",
                                 "{} x",
                                 "{\"a\"}",
                                 "{\"a\":1,}",
                                 "{\"a\":1e999}",
                                 "{\"a\":\"\xff\"}",
                                 "{a:1}"}) {
    const auto members = members_of(line);
    ASSERT_FALSE(members) << line;
    EXPECT_EQ(members.error().code, ErrorCode::malformed) << line;
    EXPECT_EQ(members.error().detail, "is not one JSON object");
  }
}

TEST(JsonLine, a_key_that_stands_there_twice_is_named) {
  const auto members = members_of(R"({"task":"a","payload":{"x":1,"x":2},"task":"b"})");
  ASSERT_FALSE(members);
  EXPECT_EQ(members.error().where, "task");
}

TEST(JsonLine, depth_costs_no_stack) {
  const std::size_t depth = 50'000;
  const auto members =
      members_of("{\"p\":" + std::string(depth, '[') + std::string(depth, ']') + "}");
  ASSERT_TRUE(members);
  EXPECT_EQ(members->front().values, depth - 1);
}

}  // namespace

}  // namespace sluice::cli
