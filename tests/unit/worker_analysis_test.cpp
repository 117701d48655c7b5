#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include <gmock/gmock.h>

#include "common/clock.h"
#include "tests/support/http_server.h"
#include "worker/tasks/analysis.h"

#include <nlohmann/json.hpp>

extern char** environ;

namespace sluice::worker_analysis_test {
namespace {

// Debian's own: another that is first in PATH may be a script of many processes.
constexpr const char* kPython = "/usr/bin/python3";

// tests/support/langgraph_standin.py as a process of its own.
class StandIn {
 public:
  explicit StandIn(std::vector<std::string> arguments = {}) {
    const auto script = std::filesystem::path(__FILE__).parent_path().parent_path() / "support" /
                        "langgraph_standin.py";
    std::vector<std::string> words = {kPython, script.string()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words)
      argv.push_back(word.data());
    argv.push_back(nullptr);
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    EXPECT_EQ(::posix_spawn(&pid_, kPython, &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    char line[128] = {};
    EXPECT_GT(::read(ends[0], line, sizeof line - 1), 0);
    ::close(ends[0]);
    port_ = nlohmann::json::parse(line).at("port").get<int>();
  }

  ~StandIn() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  pid_t pid_ = 0;
  int port_ = 0;
};

std::unique_ptr<Runtime> runtime_for(const std::string& base_url,
                                     const std::string& assistant = "trading") {
  TaskSettings settings("analysis",
                        {{"base_url", base_url},
                         {"assistant_id", assistant},
                         {"allow", TaskSettings::Texts{"127.0.0.0/8"}}});
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

AttemptResult wait_for(Runtime& runtime) {
  std::vector<RuntimeEvent> events;
  for (int turn = 0; turn < 1000 && events.empty(); ++turn) {
    pollfd ready{runtime.fd(), POLLIN, 0};
    if (::poll(&ready, 1, 20'000) <= 0) break;
    runtime.poll(clock_now(), events);
  }
  EXPECT_EQ(events.size(), 1u);
  return events.empty() ? AttemptResult{} : std::get<AttemptDone>(events.front()).result;
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
