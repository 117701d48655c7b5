#include <rapidcheck.h>

#include <gtest/gtest.h>

#include "broker/store/list_cursor.h"

namespace sluice::broker_list_cursor_test {
namespace {

bool is_same(const ListCursor& a, const ListCursor& b) {
  return a.queue == b.queue && a.score == b.score && a.id == b.id;
}

// The greatest score there is: `low`, and the last sequence below the next step.
constexpr double kScoreMax = 9007199254740991.0;

TEST(ListCursor, is_queue_score_and_id) {
  const std::vector<std::pair<ListCursor, std::string>> cases = {
      {{"mail", 0, "a"}, "mail/0/a"},
      {{"", 1'700'000'000'000, "order:7"}, "/1700000000000/order:7"},
      {{"q", kScoreMax, "x"}, "q/9007199254740991/x"},
  };
  for (const auto& [cursor, text] : cases) {
    EXPECT_EQ(to_text(cursor), text);
    const auto parsed = parse_list_cursor(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_TRUE(is_same(*parsed, cursor)) << text;
  }
}

TEST(ListCursor, of_any_place_leads_back_to_it) {
  EXPECT_TRUE(rc::check([] {
    const auto text = [](const char* letters, std::size_t least) {
      auto letter = rc::gen::elementOf(std::string(letters));
      return *rc::gen::suchThat(rc::gen::container<std::string>(letter),
                                [=](const std::string& all) { return all.size() >= least; });
    };
    const ListCursor cursor{
        text("aZ09_.-", 0),
        static_cast<double>(
            *rc::gen::inRange<std::int64_t>(0, static_cast<std::int64_t>(kScoreMax) + 1)),
        text("aZ09_.:-", 1)};
    const auto parsed = parse_list_cursor(to_text(cursor));
    RC_ASSERT(parsed.has_value());
    RC_ASSERT(is_same(*parsed, cursor));
  }));
}

TEST(ListCursor, what_no_answer_ever_said_is_none) {
  for (const char* bad : {"",
                          "/",
                          "//",
                          "q",
                          "q/1",
                          "q/1/",
                          "q//a",
                          "q/x/a",
                          "q/1x/a",
                          "q/ 1/a",
                          "q/1 /a",
                          "q/+1/a",
                          "q/0x1/a",
                          "q/-1/a",
                          "q/nan/a",
                          "q/inf/a",
                          "q/1e300/a"})
    EXPECT_FALSE(parse_list_cursor(bad)) << bad;
}

}  // namespace
}  // namespace sluice::broker_list_cursor_test
