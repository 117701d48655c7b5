#include <set>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "worker/tasks/analysis.h"

#include <nlohmann/json.hpp>

namespace sluice::worker_analysis_input_test {
namespace {

using nlohmann::json;

TEST(AnalysisInput, is_a_ticker_and_a_date_and_other_keys_are_the_producer_s) {
  const auto input = parse_analysis_input(
      json{{"ticker", "BRK.B"}, {"trade_date", "2024-02-29"}, {"note", {1, 2}}});
  ASSERT_TRUE(input);
  EXPECT_EQ(input->ticker, "BRK.B");
  EXPECT_EQ(input->trade_date, "2024-02-29");
}

TEST(AnalysisInput, the_field_that_is_wrong_or_missing_is_named) {
  const std::string date = "2024-01-15";
  for (const auto& [payload, where] :
       {std::pair<json, std::string>{json::array({"AAPL", date}), "payload"},
        {"AAPL", "payload"},
        {nullptr, "payload"},
        {json::object(), "ticker"},
        {{{"trade_date", date}}, "ticker"},
        {{{"ticker", 5}, {"trade_date", date}}, "ticker"},
        {{{"ticker", "aapl"}, {"trade_date", date}}, "ticker"},
        {{{"ticker", "AAPL"}}, "trade_date"},
        {{{"ticker", "AAPL"}, {"trade_date", 20240115}}, "trade_date"},
        {{{"ticker", "AAPL"}, {"trade_date", "2024-1-15"}}, "trade_date"}}) {
    const auto input = parse_analysis_input(payload);
    ASSERT_FALSE(input) << payload;
    EXPECT_EQ(input.error().code, ErrorCode::bad_field) << payload;
    EXPECT_EQ(input.error().where, where) << payload;
  }
}

// Another node, of another version, must find the thread that an earlier attempt began.
TEST(AnalysisInput, the_thread_of_a_job_s_life_is_the_same_everywhere_and_for_ever) {
  EXPECT_EQ(analysis_thread_id(JobId("job-1"), 1), "b5fed996-9bf3-842f-9aa1-8e21d5c8d9ab");
  EXPECT_EQ(analysis_thread_id(JobId("job-1"), 2), "0a5052b5-cd53-8b5b-9fda-4e521cf5ff9c");
}

TEST(AnalysisInput, each_life_of_each_job_has_a_thread_of_its_own_which_is_a_uuid) {
  std::set<std::string> ids;
  for (const char* job : {"a", "b", "1", "11", "1-1"})
    for (const std::uint32_t life : {1U, 2U, 11U, UINT32_MAX}) {
      const std::string id = analysis_thread_id(JobId(job), life);
      ids.insert(id);
      ASSERT_EQ(id.size(), 36U);
      for (std::size_t i = 0; i < id.size(); ++i)
        if (i == 8 || i == 13 || i == 18 || i == 23)
          EXPECT_EQ(id[i], '-') << id;
        else
          EXPECT_NE(std::string("0123456789abcdef").find(id[i]), std::string::npos) << id;
      EXPECT_EQ(id[14], '8') << "the version that applications make up: " << id;
      EXPECT_NE(std::string("89ab").find(id[19]), std::string::npos) << id;
    }
  EXPECT_EQ(ids.size(), 20U);
}

}  // namespace
}  // namespace sluice::worker_analysis_input_test
