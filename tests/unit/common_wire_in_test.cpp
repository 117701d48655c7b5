#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/protocol/wire_in.h"

#include <nlohmann/json.hpp>

namespace sluice::wire::common_wire_in_test {
namespace {

using Json = nlohmann::ordered_json;

std::string packed(const Json& json) {
  const std::vector<std::uint8_t> bytes = Json::to_msgpack(json);
  return {bytes.begin(), bytes.end()};
}

Json deep(std::size_t levels) {
  Json json = 1;
  for (std::size_t i = 0; i < levels; ++i)
    json = Json::array({std::move(json)});
  return json;
}

TEST(WireIn, an_error_names_its_field_and_the_first_is_kept) {
  const std::string frame = packed({{"a", {{{"b", 1}}, {{"b", "x"}}}}});
  In in(frame);
  std::vector<int> numbers;
  const bool ok = in.fields([&](std::string_view) {
    return in.list(numbers, 0, 2, [&](int& number) {
      return in.fields([&](std::string_view) { return in.number(number); });
    });
  });
  EXPECT_FALSE(ok);
  EXPECT_TRUE(in.failed());
  EXPECT_FALSE(in.bad("something else"));
  const Error error = in.take_error();
  EXPECT_EQ(error.code, ErrorCode::bad_field);
  EXPECT_EQ(error.where, "a[1].b");
  EXPECT_EQ(error.detail, "must be an integer from 0 to 2147483647");
}

TEST(WireIn, a_key_of_a_stranger_is_shown_short_and_printable) {
  const auto place_of = [](const std::string& key) {
    const std::string frame = packed(Json::object({{key, 1}}));
    In in(frame);
    EXPECT_FALSE(in.fields([&](std::string_view) { return in.bad("no"); }));
    return in.take_error().where;
  };
  EXPECT_EQ(place_of("a\n\x1b[2J b"), "a??[2J?b");
  EXPECT_EQ(place_of("\u00e4"), "??");
  EXPECT_EQ(place_of(std::string(65, 'k')), std::string(64, 'k'));
}

TEST(WireIn, a_list_is_counted_before_anything_is_read) {
  const auto read = [](std::size_t count, std::size_t min, std::size_t max) {
    const std::string frame = packed(Json(std::vector<int>(count, 7)));
    In in(frame);
    std::vector<int> out;
    if (in.list(out, min, max, [&](int& number) { return in.number(number); }))
      return std::string(out == std::vector<int>(count, 7) ? "taken" : "wrong");
    EXPECT_TRUE(out.empty());
    return std::string(to_string(in.take_error().code));
  };
  EXPECT_EQ(read(0, 0, 2), "taken");
  EXPECT_EQ(read(2, 1, 2), "taken");
  EXPECT_EQ(read(3, 1, 2), "too_large");
  EXPECT_EQ(read(0, 1, 2), "bad_field");
}

TEST(WireIn, numbers_are_taken_to_the_end_of_their_type_and_no_further) {
  const auto taken = [](auto sent, auto target) {
    const std::string frame = packed(sent);
    In in(frame);
    return in.number(target) && target == static_cast<decltype(target)>(sent);
  };
  EXPECT_TRUE(taken(std::numeric_limits<std::uint32_t>::max(), std::uint32_t{}));
  EXPECT_FALSE(taken(std::uint64_t{1} << 32, std::uint32_t{}));
  EXPECT_TRUE(taken(std::numeric_limits<std::uint64_t>::max(), std::uint64_t{}));
  EXPECT_TRUE(taken(std::numeric_limits<std::int64_t>::max(), std::int64_t{}));
  EXPECT_FALSE(taken(std::uint64_t{1} << 63, std::int64_t{}));
  EXPECT_FALSE(taken(-1, std::int64_t{}));
  EXPECT_FALSE(taken(-1, std::uint64_t{}));
  EXPECT_FALSE(taken(1.0, std::uint32_t{})) << "a number with a point is no integer";
}

TEST(WireIn, what_is_wrong_can_be_passed_over_and_the_next_is_read) {
  const std::string frame = packed({{{"a", 1}, {"b", {1, 2, {3}}}}, {{"a", 5}}});
  In in(frame);
  std::vector<std::string> errors;
  std::vector<int> read;
  const auto element = [&] {
    const In::Mark mark = in.mark();
    int number = 0;
    const bool ok = in.fields(
        [&](std::string_view key) { return key == "a" ? in.number(number, 2, 9) : in.skip(); });
    if (ok)
      read.push_back(number);
    else
      errors.push_back(in.recover(mark).where);
    return true;
  };
  EXPECT_TRUE(in.elements(
      0,
      9,
      [](std::size_t) {},
      element));
  EXPECT_FALSE(in.failed());
  EXPECT_EQ(errors, std::vector<std::string>{"[0].a"});
  EXPECT_EQ(read, std::vector<int>{5});
}

struct Opened {
  Envelope envelope;
  std::string code, where;
};

Opened open(const std::string& frame) {
  Opened opened;
  const auto error = open_frame(frame, opened.envelope);
  opened.code = error ? std::string(to_string(error->code)) : "";
  opened.where = error ? error->where : "";
  return opened;
}

// So that its sender can be told, under the number that it gave.
TEST(WireIn, a_frame_of_another_version_still_says_its_op_and_req) {
  const std::string frame = packed({{"protocol", 2}, {"op", "ping"}, {"req", 9}});
  const Opened opened = open(frame);
  EXPECT_EQ(opened.code, "unsupported_version");
  EXPECT_EQ(opened.where, "protocol");
  EXPECT_EQ(opened.envelope.op, "ping");
  EXPECT_EQ(opened.envelope.req, "\x09");
  EXPECT_EQ(open(frame + "\x01").code, "malformed") << "what is no frame has no version";
}

TEST(WireIn, the_top_of_a_frame_is_checked_before_anything_else_is_read) {
  const std::vector<std::tuple<Json, const char*, const char*>> cases = {
      {{{"op", "x"}}, "", ""},
      {{{"op", "x"}, {"req", nullptr}}, "", ""},
      {{{"op", "x"}, {"req", -1}}, "", ""},
      {{{"op", "x"}, {"deep", deep(7)}}, "", ""},
      {{{"op", "x"}, {"deep", deep(8)}}, "malformed", "deep"},
      {{{"op", ""}}, "malformed", "op"},
      {{{"op", 1}}, "bad_field", "op"},
      {{{"op", "x"}, {"req", 1.5}}, "bad_field", "req"},
      {{{"op", "x"}, {"req", true}}, "bad_field", "req"},
      {{{"op", "x"}, {"protocol", "1"}}, "bad_field", "protocol"},
      {{{"op", "x"}, {"protocol", -1}}, "bad_field", "protocol"},
      {{{"op", "x"}, {"protocol", 0}}, "unsupported_version", "protocol"}};
  for (const auto& [json, code, where] : cases) {
    const std::string frame = packed(json);
    EXPECT_EQ(open(frame).code, code) << json;
    EXPECT_EQ(open(frame).where, where) << json;
  }
}

}  // namespace
}  // namespace sluice::wire::common_wire_in_test
