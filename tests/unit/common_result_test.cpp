#include <set>
#include <string>

#include <gtest/gtest.h>

#include "common/result.h"

namespace sluice::common_result_test {
namespace {

constexpr unsigned kCodes = static_cast<unsigned>(ErrorCode::internal) + 1;

TEST(ErrorCode, every_code_has_its_own_word_and_comes_back) {
  std::set<std::string> words;
  for (unsigned i = 0; i < kCodes; ++i) {
    const auto code = static_cast<ErrorCode>(i);
    const std::string word(to_string(code));
    EXPECT_FALSE(word.empty());
    EXPECT_TRUE(words.insert(word).second) << word;
    EXPECT_EQ(parse_error_code(word), code);
  }
  EXPECT_EQ(words.size(), 15U);
}

TEST(ErrorCode, no_other_word_is_one) {
  for (const char* wrong : {"", "Malformed", "malformed ", "bad", "ok"})
    EXPECT_EQ(parse_error_code(wrong), std::nullopt) << wrong;
}

TEST(Result, a_failure_carries_code_place_and_sentence) {
  const Result<int> result = fail(ErrorCode::too_late, "ids[0]", "the job has ended");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::too_late);
  EXPECT_EQ(result.error().where, "ids[0]");
  EXPECT_EQ(result.error().detail, "the job has ended");
}

}  // namespace
}  // namespace sluice::common_result_test
