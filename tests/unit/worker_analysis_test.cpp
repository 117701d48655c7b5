#include <regex>

#include <gmock/gmock.h>

#include "tests/support/http_job.h"
#include "tests/support/python_server.h"
#include "worker/tasks/analysis.h"

#include <nlohmann/json.hpp>

namespace sluice::worker_analysis_test {
namespace {

using http_job::wait_for;
using testing::HasSubstr;
using testing::Not;
using Values = http_job::Values;

// The stand-in of the real server, as a process of its own.
class StandIn {
 public:
  explicit StandIn(std::vector<std::string> arguments = {})
      : server_("langgraph_standin.py", std::move(arguments)) {}

  [[nodiscard]] std::string url() const {
    return "http://127.0.0.1:" + std::to_string(server_.said().at("port").get<int>());
  }

 private:
  PythonServer server_;
};

std::unique_ptr<Runtime> runtime_for(const std::string& base_url,
                                     const std::string& assistant = "trading",
                                     Values more = {}) {
  more["base_url"] = base_url;
  more["assistant_id"] = assistant;
  more["allow"] = TaskSettings::Texts{"127.0.0.0/8"};
  TaskSettings settings("analysis", std::move(more));
  AnalysisRuntimeBuilder builder;
  const auto added = builder.add(settings);
  EXPECT_TRUE(added) << added.error().detail;
  return builder.build();
}

Assignment analysis_of(const std::string& ticker, std::uint32_t attempt = 1) {
  Assignment assignment;
  assignment.job.id = JobId("job-1");
  assignment.job.fence = {7, attempt};
  assignment.job.task = "analysis";
  assignment.job.content_type = "application/json";
  assignment.job.payload = R"({"ticker":")" + ticker + R"(","trade_date":"2024-01-15"})";
  return assignment;
}

TEST(AnalysisRuntime, gives_the_report_and_a_second_attempt_takes_the_same_run) {
  StandIn server;
  const auto runtime = runtime_for(server.url());
  runtime->start(analysis_of("AAPL"));
  const AttemptResult first = wait_for(*runtime);
  ASSERT_EQ(first.outcome, Outcome::completed) << first.error_code << " " << first.error;
  const auto report = nlohmann::json::parse(first.result);
  EXPECT_EQ(report.at("report"), "HOLD AAPL on 2024-01-15");
  runtime->start(analysis_of("AAPL", 2));
  const auto again = nlohmann::json::parse(wait_for(*runtime).result);
  EXPECT_EQ(again.at("run_id"), report.at("run_id"));
}

TEST(AnalysisRuntime, the_job_s_log_says_what_became_of_the_run) {
  StandIn server;
  const auto runtime = runtime_for(server.url());
  std::string log;
  runtime->start(analysis_of("AAPL"));
  const auto report = nlohmann::json::parse(wait_for(*runtime, &log).result);
  runtime->start(analysis_of("AAPL", 2));
  (void)wait_for(*runtime, &log);
  const std::string run = "thread " + report.at("thread_id").get<std::string>() + ", run " +
                          report.at("run_id").get<std::string>();
  EXPECT_EQ(std::regex_replace(log, std::regex("[0-9]+ ms"), "N ms"),
            run + ": created\n" + run + ": done after N ms\n" + run +
                ": found, it has succeeded\n" + run + ": done after N ms\n");
  log.clear();
  StandIn another;  // which does not know this job's thread
  const auto other_runtime = runtime_for(another.url());
  other_runtime->start(analysis_of("BAD"));
  (void)wait_for(*other_runtime, &log);
  EXPECT_THAT(log, HasSubstr(": failed (graph_error) after "));
}

TEST(AnalysisRuntime, a_graph_that_raises_is_a_failure_with_its_message) {
  StandIn server;
  const auto runtime = runtime_for(server.url());
  runtime->start(analysis_of("BAD"));
  const AttemptResult result = wait_for(*runtime);
  EXPECT_EQ(result.error_code, "graph_error");
  EXPECT_EQ(result.error, "unknown ticker");
}

TEST(AnalysisRuntime, an_assistant_that_does_not_exist_is_never_tried_again) {
  StandIn server;
  const auto runtime = runtime_for(server.url(), "nobody");
  runtime->start(analysis_of("AAPL"));
  const AttemptResult result = wait_for(*runtime);
  EXPECT_EQ(result.error_code, "assistant_not_found");
  EXPECT_FALSE(result.retryable);
}

TEST(AnalysisRuntime, a_429_is_tried_again_when_the_server_says) {
  StandIn server({"--faults", "1", "--fault-kinds", "429"});
  const auto runtime = runtime_for(server.url());
  runtime->start(analysis_of("AAPL"));
  const AttemptResult result = wait_for(*runtime);
  EXPECT_EQ(result.error_code, "http_429");
  EXPECT_EQ(result.retry_after_ms, 1000);
}

TEST(AnalysisRuntime, an_api_key_is_sent_and_a_wrong_one_is_never_tried_again) {
  StandIn server({"--api-key", "hunter-two"});
  const Values values{{"api_key", "secret:LANGGRAPH_TEST"}};
  for (const auto& [key, code] : {std::pair{"hunter-two", ""}, {"hunter-one", "http_403"}}) {
    ::setenv("SLUICE_SECRET_LANGGRAPH_TEST", key, 1);
    const auto runtime = runtime_for(server.url(), "trading", values);
    runtime->start(analysis_of("AAPL"));
    const AttemptResult result = wait_for(*runtime);
    EXPECT_EQ(result.error_code, code) << result.error;
    if (result.outcome == Outcome::completed) continue;
    EXPECT_FALSE(result.retryable);
    EXPECT_THAT(result.error, Not(HasSubstr(key)));
  }
}

TEST(AnalysisRuntime, a_report_larger_than_a_result_may_be_is_never_tried_again) {
  StandIn server;
  const auto runtime = runtime_for(server.url());
  runtime->start(analysis_of("HUGE"));
  const AttemptResult result = wait_for(*runtime);
  EXPECT_EQ(result.error_code, "result_too_large");
  EXPECT_FALSE(result.retryable);
}

TEST(AnalysisRuntime, an_answer_that_is_nested_without_end_costs_that_attempt_alone) {
  HttpServer server([](const std::string&) {
    return http_answer(
        "200 OK",
        "Content-Type: application/json\r\n",
        "{\"__error__\":" + std::string(1 << 20, '[') + std::string(1 << 20, ']') + "}");
  });
  const auto runtime = runtime_for(server.url(""));
  runtime->start(analysis_of("AAPL"));
  EXPECT_EQ(wait_for(*runtime).error_code, "bad_response");
}

TEST(AnalysisRuntime, a_wrong_ticker_or_date_is_refused_before_anything_is_sent) {
  using nlohmann::json;
  EXPECT_FALSE(parse_analysis_input(json{{"ticker", "a/b"}, {"trade_date", "2024-01-15"}}));
  for (const char* date :
       {"2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01", "2024-00-10", "2024-01-00"})
    EXPECT_FALSE(parse_analysis_input(json{{"ticker", "AAPL"}, {"trade_date", date}})) << date;
  EXPECT_TRUE(parse_analysis_input(json{{"ticker", "AAPL"}, {"trade_date", "2000-02-29"}}));
  EXPECT_TRUE(parse_analysis_input(json{{"ticker", "BRK.B"}, {"trade_date", "2024-02-29"}}));
}

}  // namespace
}  // namespace sluice::worker_analysis_test
