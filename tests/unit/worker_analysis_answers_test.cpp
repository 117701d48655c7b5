// What an attempt makes of each answer that a server of the LangGraph API may give;
// worker_analysis_test.cpp has the stand-in of a real one.
#include <mutex>
#include <set>

#include <gmock/gmock.h>

#include "common/limits.h"
#include "tests/support/http_job.h"
#include "worker/tasks/analysis.h"

#include <nlohmann/json.hpp>

namespace sluice::worker_analysis_answers_test {
namespace {

using http_job::connections_to;
using http_job::wait_for;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Which call of an attempt this is: thread, list, create, join, look, state or cancel.
std::string step_of(const std::string& request) {
  const std::string line = request.substr(0, request.find(" HTTP/"));
  const bool is_post = line.starts_with("POST ");
  if (line.ends_with("/threads")) return "thread";
  if (line.ends_with("/runs")) return is_post ? "create" : "list";
  for (const char* last : {"join", "state", "cancel"})
    if (line.ends_with("/" + std::string(last))) return last;
  return "look";
}

HttpAnswer json_answer(const std::string& body, const std::string& status = "200 OK") {
  return http_answer(status, "Content-Type: application/json\r\n", body);
}

// A server on which all goes well, but for the steps that a test sets.
class Script {
 public:
  void set(const std::string& step, HttpAnswer answer) {
    const std::lock_guard lock(mutex_);
    answers_[step] = std::move(answer);
  }

  void set(const std::string& step, const std::string& body) { set(step, json_answer(body)); }

  [[nodiscard]] HttpServer& server() { return server_; }

  // How often this step came.
  [[nodiscard]] int count(const std::string& step) {
    const std::lock_guard lock(mutex_);
    return counts_[step];
  }

  // The whole of the last one.
  [[nodiscard]] std::string request(const std::string& step) {
    const std::lock_guard lock(mutex_);
    return requests_[step];
  }

 private:
  HttpAnswer answer(const std::string& request) {
    const std::lock_guard lock(mutex_);
    const std::string step = step_of(request);
    ++counts_[step];
    requests_[step] = request;
    return answers_.at(step);
  }

  std::mutex mutex_;  // guards all but the server
  std::map<std::string, HttpAnswer> answers_{
      {"thread", json_answer("{}")},
      {"list", json_answer("[]")},
      {"create", json_answer(R"({"run_id":"run-1","status":"pending"})")},
      {"join", json_answer("{}")},
      {"look", json_answer(R"({"run_id":"run-1","status":"success"})")},
      {"state", json_answer(R"({"values":{"final_trade_decision":"BUY"}})")},
      {"cancel", json_answer("{}")}};
  std::map<std::string, int> counts_;
  std::map<std::string, std::string> requests_;
  HttpServer server_{[this](const std::string& request) {
    return answer(request);
  }};
};

std::unique_ptr<Runtime> runtime_on(Script& script, http_job::Values values = {}) {
  values["base_url"] = script.server().url("");
  values["assistant_id"] = "trading";
  values["allow"] = TaskSettings::Texts{"127.0.0.0/8"};
  TaskSettings settings("analysis", std::move(values));
  AnalysisRuntimeBuilder builder;
  const auto added = builder.add(settings);
  EXPECT_TRUE(added) << added.error().detail;
  return builder.build();
}

Assignment attempt(std::uint32_t number = 1, std::uint32_t life = 1) {
  Assignment assignment = http_job::assignment_of(R"({"ticker":"AAPL","trade_date":"2024-01-15"})",
                                                  "job-1",
                                                  "analysis");
  assignment.job.fence = {7, number};
  assignment.job.life = life;
  return assignment;
}

AttemptResult run(Script& script, http_job::Values values = {}) {
  return http_job::run(*runtime_on(script, std::move(values)), attempt());
}

// Of an attempt on a server that answers one step so.
AttemptResult run_with(const std::string& step, HttpAnswer answer) {
  Script script;
  script.set(step, std::move(answer));
  return run(script);
}

AttemptResult run_with(const std::string& step, const std::string& body) {
  return run_with(step, json_answer(body));
}

void expect_failed(const AttemptResult& result,
                   const std::string& code,
                   bool retryable,
                   const std::string& what) {
  EXPECT_EQ(result.outcome, Outcome::failed) << what;
  EXPECT_EQ(result.error_code, code) << what << ": " << result.error;
  EXPECT_EQ(result.retryable, retryable) << what;
}

TEST(AnalysisAnswers, each_end_of_a_run_has_its_code) {
  for (const auto& [status, code] : {std::pair{"timeout", "run_timeout"},
                                     {"interrupted", "run_interrupted"},
                                     {"error", "graph_error"},
                                     {"never-heard-of", "graph_error"},
                                     {"", "bad_response"}}) {
    const AttemptResult result =
        run_with("look", json{{"run_id", "run-1"}, {"status", status}}.dump());
    expect_failed(result, code, true, status);
    EXPECT_THAT(result.error, HasSubstr(status));
  }
}

TEST(AnalysisAnswers, an_error_in_a_body_is_the_graph_s_with_its_message) {
  const std::string error = R"({"__error__":{"error":"ValueError","message":"no such ticker"}})";
  for (const char* step : {"thread", "list", "create", "join", "look", "state"}) {
    const AttemptResult result = run_with(step, error);
    expect_failed(result, "graph_error", true, step);
    EXPECT_EQ(result.error, "no such ticker") << step;
  }
  EXPECT_THAT(run_with("join", R"({"__error__":["odd"]})").error, HasSubstr("odd"));
}

TEST(AnalysisAnswers, a_404_means_what_was_asked_for) {
  const HttpAnswer nothing = json_answer(R"({"detail":"Not Found"})", "404 Not Found");
  for (const auto& [step, code, retryable] : {std::tuple{"thread", "no_threads_here", false},
                                              {"list", "run_not_found", true},
                                              {"create", "assistant_not_found", false},
                                              {"look", "run_not_found", true},
                                              {"state", "run_not_found", true}})
    expect_failed(run_with(step, nothing), code, retryable, step);
}

TEST(AnalysisAnswers, another_status_is_the_call_s_failure_at_each_step) {
  for (const char* step : {"thread", "list", "create", "look", "state"})
    for (const auto& [status, retryable] :
         {std::pair{"401 Who", false}, {"422 What", false}, {"500 Oh", true}, {"503 Later", true}})
      expect_failed(run_with(step, json_answer("{}", status)),
                    "http_" + std::string(status, 3),
                    retryable,
                    step);
}

TEST(AnalysisAnswers, a_join_that_fails_in_any_way_is_decided_by_a_look) {
  for (const HttpAnswer& answer : {json_answer("{}", "500 Oh"),
                                   json_answer("{}", "404 Not Found"),
                                   json_answer("no json"),
                                   json_answer(""),
                                   HttpAnswer{}})
    EXPECT_EQ(run_with("join", answer).outcome, Outcome::completed) << answer.bytes;
}

TEST(AnalysisAnswers, a_run_that_is_still_alive_after_its_join_is_looked_at_until_it_is_not) {
  Script script;
  script.set("look", R"({"status":"running"})");
  const auto runtime = runtime_on(script, {{"poll_interval", "10ms"}});
  runtime->start(attempt());
  std::vector<RuntimeEvent> events;
  while (script.count("look") < 3) {
    const std::int64_t due = runtime->next_deadline_mono_ms();
    pollfd ready{runtime->fd(), POLLIN, 0};
    ::poll(&ready, 1, due == kNever ? 60'000 : 10);
    runtime->poll(clock_now(), events);
  }
  const auto says_running = [](const RuntimeEvent& event) {
    return std::get<AttemptLog>(event).bytes.ends_with(": status running\n");
  };
  EXPECT_EQ(std::ranges::count_if(events, says_running), 1) << "one line, however often it looks";
  script.set("look", R"({"status":"success"})");
  EXPECT_EQ(wait_for(*runtime).outcome, Outcome::completed);
  EXPECT_EQ(script.count("join"), 1);
}

TEST(AnalysisAnswers, what_is_no_answer_at_all_is_tried_again) {
  for (const char* step : {"thread", "list", "create", "look", "state"})
    for (const char* body : {"", "no json", "{", "\xff\xfe", "[1,"})
      expect_failed(run_with(step, body), "bad_response", true, step + std::string(": ") + body);
}

TEST(AnalysisAnswers, a_run_id_that_is_none_goes_into_no_url) {
  for (const json& id : {json("../../store"),
                         json("a/b"),
                         json("a?b"),
                         json("%2e%2e"),
                         json(""),
                         json(7),
                         json(nullptr),
                         json(std::string(65, 'x'))}) {
    Script script;
    script.set("create", json{{"run_id", id}}.dump());
    expect_failed(run(script), "bad_response", true, id.dump());
    EXPECT_EQ(script.count("join") + script.count("look"), 0);
  }
  for (const char* body : {"{}", "[]", "7", "\"run-1\""})
    expect_failed(run_with("create", body), "bad_response", true, body);
}

TEST(AnalysisAnswers, who_gives_no_list_of_runs_is_asked_for_no_other_run) {
  for (const char* body : {"{}", "7", "null", "\"[]\""}) {
    Script script;
    script.set("list", body);
    expect_failed(run(script), "bad_response", true, body);
    EXPECT_EQ(script.count("create"), 0) << body;
  }
}

TEST(AnalysisAnswers, runs_in_a_list_that_make_no_sense_are_none) {
  Script script;
  script.set(
      "list",
      R"([7, {}, {"run_id":"../x","status":"success"}, {"status":"running"}, {"run_id":5}])");
  EXPECT_EQ(run(script).outcome, Outcome::completed);
  EXPECT_EQ(script.count("create"), 1);
}

TEST(AnalysisAnswers, a_state_without_a_report_is_said_so) {
  for (const char* body : {"{}",
                           "[]",
                           "7",
                           R"({"values":null})",
                           R"({"values":[]})",
                           R"({"values":{}})",
                           R"({"values":{"final_trade_decision":""}})",
                           R"({"values":{"final_trade_decision":7}})"})
    expect_failed(run_with("state", body), "no_report", true, body);
}

TEST(AnalysisAnswers, a_report_that_is_too_large_is_never_tried_again) {
  const auto state_with = [](std::size_t report_bytes) {
    return R"({"values":{"final_trade_decision":")" + std::string(report_bytes, 'x') + R"("}})";
  };
  expect_failed(run_with("state", state_with(kResultBytesMax)), "result_too_large", false, "1 MiB");
  expect_failed(run_with("state", state_with(4u << 20)), "response_too_large", false, "4 MiB");
  const AttemptResult within = run_with("state", state_with(kResultBytesMax - 1000));
  EXPECT_EQ(within.outcome, Outcome::completed) << within.error;
}

TEST(AnalysisAnswers, the_report_says_when_it_began_and_how_long_it_took) {
  Script script;
  const Now before = clock_now();
  const json result = json::parse(run(script).result);
  const Now after = clock_now();
  EXPECT_EQ(result.at("report"), "BUY");
  EXPECT_EQ(result.at("run_id"), "run-1");
  EXPECT_EQ(result.at("thread_id"), analysis_thread_id(JobId("job-1"), 1));
  EXPECT_GE(result.at("started_ms").get<std::int64_t>(), before.wall_ms);
  EXPECT_LE(result.at("started_ms").get<std::int64_t>(), after.wall_ms);
  EXPECT_GE(result.at("duration_ms").get<std::int64_t>(), 0);
  EXPECT_LE(result.at("duration_ms").get<std::int64_t>(), after.mono_ms - before.mono_ms);
}

// ---------------------------------------------------------------- attempts and lives

TEST(AnalysisAnswers, a_run_that_failed_is_followed_by_another_on_the_same_thread) {
  Script script;
  script.set("look", R"({"status":"error"})");
  const auto runtime = runtime_on(script);
  expect_failed(http_job::run(*runtime, attempt(1)), "graph_error", true, "the first");
  const std::string path = "POST /threads/" + analysis_thread_id(JobId("job-1"), 1) + "/runs ";
  EXPECT_THAT(script.request("create"), HasSubstr(path));
  script.set("list", R"([{"run_id":"run-1","status":"error"}])");
  script.set("create", R"({"run_id":"run-2","status":"pending"})");
  script.set("look", R"({"status":"success"})");
  const json result = json::parse(http_job::run(*runtime, attempt(2)).result);
  EXPECT_EQ(result.at("run_id"), "run-2");
  EXPECT_EQ(script.count("create"), 2);
  EXPECT_THAT(script.request("create"), HasSubstr(path));
}

TEST(AnalysisAnswers, a_run_that_is_alive_or_done_is_not_followed_by_another) {
  for (const auto& [runs, joins] :
       {std::pair{R"([{"run_id":"run-7","status":"pending"},{"run_id":"run-1","status":"error"}])",
                  1},
        {R"([{"run_id":"run-7","status":"running"}])", 1},
        {R"([{"run_id":"run-8","status":"running"},{"run_id":"run-7","status":"success"}])", 0}}) {
    Script script;
    script.set("list", runs);
    EXPECT_EQ(json::parse(run(script).result).at("run_id"), "run-7") << runs;
    EXPECT_EQ(script.count("create"), 0) << runs;
    EXPECT_EQ(script.count("join"), joins) << runs;
  }
}

TEST(AnalysisAnswers, a_job_that_a_person_tries_again_has_another_thread) {
  Script script;
  const auto runtime = runtime_on(script);
  std::set<std::string> threads;
  for (const std::uint32_t life : {1U, 2U}) {
    const std::string id = analysis_thread_id(JobId("job-1"), life);
    const json result = json::parse(http_job::run(*runtime, attempt(life, life)).result);
    EXPECT_EQ(result.at("thread_id"), id);
    EXPECT_THAT(script.request("thread"), HasSubstr(id));
    EXPECT_THAT(script.request("create"), HasSubstr("/threads/" + id + "/runs "));
    threads.insert(id);
  }
  EXPECT_EQ(threads.size(), 2U);
}

// ---------------------------------------------------------------- the key

TEST(AnalysisAnswers, a_key_goes_along_with_every_call_and_into_no_error_or_report) {
  ::setenv("SLUICE_SECRET_ANALYSIS_TEST", R"(hunter"two)", 1);
  const http_job::Values values{{"api_key", "secret:ANALYSIS_TEST"}};
  Script script;
  script.set("state", R"({"values":{"final_trade_decision":"BUY with hunter\"two"}})");
  const AttemptResult good = run(script, values);
  EXPECT_EQ(json::parse(good.result).at("report"), "BUY with [secret:ANALYSIS_TEST]");
  for (const char* step : {"thread", "list", "create", "join", "look", "state"})
    EXPECT_THAT(script.request(step), HasSubstr("X-Api-Key: hunter\"two\r\n")) << step;
  script.set("create", json_answer(R"(no access with hunter"two)", "403 Forbidden"));
  const AttemptResult refused = run(script, values);
  expect_failed(refused, "http_403", false, "a wrong key");
  EXPECT_THAT(refused.error, AllOf(HasSubstr("[secret:ANALYSIS_TEST]"), Not(HasSubstr("hunter"))));
}

TEST(AnalysisAnswers, a_report_that_is_too_large_once_the_key_is_out_of_it_is_no_result) {
  ::setenv("SLUICE_SECRET_ANALYSIS_TEST", "~!", 1);
  std::string report;
  while (report.size() < kResultBytesMax / 4)
    report += "~!";
  Script script;
  script.set("state", json{{"values", {{"final_trade_decision", report}}}}.dump());
  expect_failed(run(script, {{"api_key", "secret:ANALYSIS_TEST"}}), "result_too_large", false, "");
}

// ---------------------------------------------------------------- cancelling

TEST(AnalysisAnswers, a_cancel_is_the_job_s_end_whatever_the_server_makes_of_it) {
  const HttpAnswer nothing{{}, HttpAnswer::Then::hold, {}, {}};
  for (const HttpAnswer& answer :
       {json_answer("{}"), json_answer("{}", "404 Gone"), json_answer("{}", "500 Oh"), nothing}) {
    Script script;
    script.set("join", nothing);
    script.set("cancel", answer);
    const auto runtime = runtime_on(script, {{"cancel_timeout", "50ms"}});
    runtime->start(attempt());
    std::vector<RuntimeEvent> events;
    while (script.count("join") == 0) {
      pollfd ready{runtime->fd(), POLLIN, 0};
      ::poll(&ready, 1, 5);  // also looks whether the join has come
      runtime->poll(clock_now(), events);
    }
    runtime->stop(JobId("job-1"), {7, 1}, StopReason::cancel);
    EXPECT_EQ(wait_for(*runtime).outcome, Outcome::cancelled) << answer.bytes;
    EXPECT_EQ(script.count("cancel"), 1);
    EXPECT_THAT(script.request("cancel"), HasSubstr("/runs/run-1/cancel "));
    EXPECT_EQ(connections_to(script.server().port()), 0U);
  }
}

}  // namespace
}  // namespace sluice::worker_analysis_answers_test
