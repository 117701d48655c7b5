#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>

#include <gmock/gmock.h>

#include "common/clock.h"
#include "tests/support/http_job.h"
#include "tests/support/http_server.h"
#include "worker/tasks/http.h"
#include "worker/tasks/retry_after.h"

namespace sluice::worker_http_test {
namespace {

using namespace http_job;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr HttpAnswer kNothing{{}, HttpAnswer::Then::hold, {}};

TEST(HttpRuntime, body_of_a_200_is_the_result_and_the_job_id_is_the_idempotency_key) {
  HttpServer server([](const std::string&) { return http_answer("200 OK", "", "hello"); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"(","body":{"a":1}})");
  EXPECT_EQ(result.outcome, Outcome::completed);
  EXPECT_EQ(result.result, "hello");
  EXPECT_THAT(server.seen(), HasSubstr("Idempotency-Key: job-1"));
  EXPECT_THAT(server.seen(), HasSubstr("POST / HTTP/1.1"));
}

TEST(HttpRuntime, a_method_that_takes_a_body_says_that_there_is_none) {
  for (const std::string method : {"POST", "PUT", "PATCH", "GET", "DELETE"}) {
    HttpServer server([](const std::string&) { return http_answer("200 OK"); });
    (void)run(R"({"url":")" + server.url() + R"(","method":")" + method + R"("})");
    EXPECT_THAT(server.seen(), HasSubstr(method + " / HTTP/1.1"));
    const bool is_said = method.starts_with('P');
    EXPECT_EQ(server.seen().find("Content-Length: 0\r\n") != std::string::npos, is_said) << method;
    EXPECT_THAT(server.seen(), Not(HasSubstr("Content-Type")));
  }
}

TEST(HttpRuntime, a_503_is_tried_again_when_the_server_says) {
  HttpServer server(
      [](const std::string&) { return http_answer("503 No", "Retry-After: 7\r\n", "busy"); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})");
  EXPECT_EQ(result.error_code, "http_503");
  EXPECT_TRUE(result.retryable);
  EXPECT_EQ(result.retry_after_ms, 7000);
}

// "in 12 ms" becomes "in N ms".
std::string without_times(const std::string& log) {
  return std::regex_replace(log, std::regex("[0-9]+ ms"), "N ms");
}

TEST(HttpRuntime, the_job_s_log_says_what_was_called_and_what_failed_but_nothing_secret) {
  HttpServer server([](const std::string& request) {
    return request.starts_with("POST ") ? http_answer("503 Busy", "Retry-After: 2\r\n", "private")
           : request.starts_with("GET /gone") ? http_answer("410 Gone")
                                              : http_answer("200 OK");
  });
  ::setenv("SLUICE_SECRET_HTTP_TEST", "hunter-two", 1);
  const auto runtime =
      runtime_with({{"base_url", server.url("")},
                    {"headers", TaskSettings::TextMap{{"X-Api-Key", "secret:HTTP_TEST"}}}});
  const std::string nobody = "http://127.0.0.1:1/nobody";
  std::string log;
  for (const std::string& payload : {std::string(R"({"url":"/p?key=1#frag","method":"POST"})"),
                                     get("/gone?key=1"),
                                     get("/"),
                                     get(nobody)}) {
    runtime->start(assignment_of(payload));
    (void)wait_for(*runtime, &log);
  }
  EXPECT_EQ(without_times(log),
            "POST " + server.url("/p") +
                ": 503 in N ms, may be tried again after 2 s (Retry-After)\n"
                "GET " +
                server.url("/gone") +
                ": 410 in N ms, not to be tried again\n"
                "GET " +
                nobody + ": connect_failed in N ms, may be tried again\n");
}

TEST(HttpRuntime, the_job_s_log_says_that_a_call_was_stopped) {
  HttpServer server([](const std::string&) { return HttpAnswer{{}, HttpAnswer::Then::hold, {}}; });
  const auto runtime = runtime_with({});
  runtime->start(assignment_of(get(server.url("/held"))));
  runtime->stop(JobId("job-1"), {7, 1}, StopReason::timed_out);
  std::string log;
  (void)wait_for(*runtime, &log);
  EXPECT_EQ(without_times(log),
            "GET " + server.url("/held") + ": stopped (timed_out) after N ms\n");
}

TEST(HttpRuntime, a_404_is_never_tried_again) {
  HttpServer server([](const std::string&) { return http_answer("404 No", "", ""); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})");
  EXPECT_EQ(result.error_code, "http_404");
  EXPECT_FALSE(result.retryable);
}

TEST(HttpRuntime, loopback_is_refused_unless_it_is_allowed) {
  HttpServer server([](const std::string&) { return http_answer("200 OK", "", "inner"); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})", {}, false);
  EXPECT_EQ(result.error_code, "target_refused");
  EXPECT_FALSE(result.retryable);
  EXPECT_EQ(server.seen(), "");
}

TEST(HttpRuntime, an_answer_over_the_cap_is_refused) {
  HttpServer server(
      [](const std::string&) { return http_answer("200 OK", "", std::string(5000, 'x')); });
  const AttemptResult result =
      run(R"({"url":")" + server.url() + R"("})", {{"response_bytes_max", std::int64_t{4096}}});
  EXPECT_EQ(result.error_code, "response_too_large");
  EXPECT_FALSE(result.retryable);
}

TEST(HttpRuntime, a_body_shorter_than_its_length_is_tried_again) {
  HttpServer server([](const std::string&) {
    return HttpAnswer{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"};
  });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})");
  EXPECT_EQ(result.error_code, "response_incomplete");
  EXPECT_TRUE(result.retryable);
}

TEST(HttpRuntime, an_endless_redirect_ends) {
  HttpServer server(
      [](const std::string&) { return http_answer("302 Found", "Location: /again\r\n", ""); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})");
  EXPECT_EQ(result.error_code, "too_many_redirects");
  EXPECT_FALSE(result.retryable);
}

TEST(HttpRuntime, a_secret_goes_to_its_origin_only_and_never_into_the_result) {
  ::setenv("SLUICE_SECRET_HTTP_TEST", "hunter-two", 1);
  HttpServer other([](const std::string&) { return http_answer("200 OK", "", "hunter-two came"); });
  HttpServer server([&](const std::string&) {
    return http_answer("302 Found", "Location: " + other.url("/x") + "\r\n", "");
  });
  const AttemptResult result =
      run(R"({"url":"/start"})",
          {{"base_url", server.url("")},
           {"headers", TaskSettings::TextMap{{"X-Api-Key", "secret:HTTP_TEST"}}}});
  EXPECT_EQ(result.outcome, Outcome::completed);
  EXPECT_THAT(server.seen(), HasSubstr("X-Api-Key: hunter-two"));
  EXPECT_THAT(other.seen(), Not(HasSubstr("hunter-two")));
  EXPECT_EQ(result.result, "[secret:HTTP_TEST] came");
}

TEST(HttpRuntime, a_job_cannot_name_a_secret_that_its_task_does_not_open) {
  const AttemptResult result =
      run(R"({"url":"http://127.0.0.1:1/","headers":{"X-Key":"secret:HTTP_TEST"}})");
  EXPECT_EQ(result.error_code, "secret_refused");
  EXPECT_FALSE(result.retryable);
}

TEST(HttpRuntime, a_cancelled_call_ends_at_once_with_one_report) {
  HttpServer server([](const std::string&) { return kNothing; });
  const auto runtime = runtime_with({});
  runtime->start(assignment_of(R"({"url":")" + server.url() + R"("})"));
  runtime->stop(JobId("job-1"), {7, 1}, StopReason::cancel);
  runtime->stop(JobId("job-1"), {7, 1}, StopReason::timed_out);
  EXPECT_EQ(wait_for(*runtime).outcome, Outcome::cancelled);
}

TEST(HttpRuntime, a_target_that_is_down_is_tried_again) {
  const AttemptResult result = run(R"({"url":"http://127.0.0.1:1/"})");
  EXPECT_EQ(result.error_code, "connect_failed");
  EXPECT_TRUE(result.retryable);
}

// ---------------------------------------------------------------- servers that do not behave

TEST(HttpRuntime, an_endless_chunked_body_is_cut_at_the_cap) {
  const std::string chunk = "1000\r\n" + std::string(0x1000, 'x') + "\r\n";
  HttpServer server([&](const std::string&) {
    return HttpAnswer{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                      HttpAnswer::Then::repeat,
                      chunk};
  });
  const AttemptResult result = run(get(server), {{"response_bytes_max", std::int64_t{100'000}}});
  EXPECT_EQ(result.error_code, "response_too_large");
  EXPECT_FALSE(result.retryable);
  EXPECT_THAT(result.error, HasSubstr("100000"));
}

TEST(HttpRuntime, an_endless_body_of_an_error_is_still_its_status) {
  HttpServer server([](const std::string&) {
    return HttpAnswer{"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\n\r\n",
                      HttpAnswer::Then::repeat,
                      std::string(0x1000, 'x')};
  });
  const AttemptResult result = run(get(server));
  EXPECT_EQ(result.error_code, "http_503");
  EXPECT_TRUE(result.retryable);
  EXPECT_EQ(result.retry_after_ms, 3000);
}

TEST(HttpRuntime, endless_headers_are_cut) {
  HttpServer server([](const std::string&) {
    return HttpAnswer{"HTTP/1.1 200 OK\r\n",
                      HttpAnswer::Then::repeat,
                      "X-More: " + std::string(1000, 'h') + "\r\n"};
  });
  const AttemptResult result = run(get(server));
  EXPECT_EQ(result.outcome, Outcome::failed);
  EXPECT_EQ(result.error_code, "response_too_large");
}

TEST(HttpRuntime, headers_that_never_end_run_into_the_call_s_time_out) {
  HttpServer server([](const std::string&) {
    return HttpAnswer{"HTTP/1.1 200 OK\r\nX-Slow: ", HttpAnswer::Then::hold, {}};
  });
  const AttemptResult result = run(get(server), {{"call_timeout", "50ms"}});
  EXPECT_EQ(result.error_code, "timeout");
  EXPECT_TRUE(result.retryable);
}

TEST(HttpRuntime, a_body_that_stalls_ends_before_the_call_s_time_out) {
  HttpServer server([](const std::string&) {
    return HttpAnswer{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nb",
                      HttpAnswer::Then::hold,
                      {}};
  });
  const AttemptResult result = run(get(server), {{"call_timeout", "1h"}, {"stall_timeout", "1s"}});
  EXPECT_EQ(result.error_code, "timeout");
  EXPECT_TRUE(result.retryable);
}

TEST(HttpRuntime, a_connection_closed_without_a_word_is_tried_again) {
  HttpServer server([](const std::string&) { return HttpAnswer{}; });
  const AttemptResult result = run(get(server));
  EXPECT_EQ(result.error_code, "no_response");
  EXPECT_TRUE(result.retryable);
}

TEST(HttpRuntime, an_answer_that_is_no_http_is_tried_again) {
  HttpServer server([](const std::string&) { return HttpAnswer{"SSH-2.0-OpenSSH_9.2\r\n"}; });
  const AttemptResult result = run(get(server));
  EXPECT_EQ(result.outcome, Outcome::failed);
  EXPECT_EQ(result.error_code, "bad_response");
  EXPECT_TRUE(result.retryable);
}

TEST(HttpRuntime, the_attempt_s_own_time_out_holds_too) {
  HttpServer server([](const std::string&) { return kNothing; });
  const auto runtime = runtime_with({});
  Assignment assignment = assignment_of(get(server));
  assignment.deadline_mono_ms = clock_now().mono_ms + 50;
  runtime->start(std::move(assignment));
  const AttemptResult result = wait_for(*runtime);
  EXPECT_EQ(result.error_code, "timeout");
  EXPECT_TRUE(result.retryable);
}

TEST(HttpRuntime, hundreds_of_calls_are_under_way_at_once) {
  constexpr std::size_t kCalls = 600;
  ASSERT_TRUE(can_have_open(kCalls));
  // Nobody is answered before all have asked: one call fewer at once, and none would end.
  HttpServer server(
      [](const std::string& request) {
        return http_answer("200 OK", "", request.substr(4, request.find(' ', 4) - 4));
      },
      kCalls);
  const auto runtime = runtime_with({});
  for (std::size_t i = 0; i < kCalls; ++i) {
    Assignment assignment =
        assignment_of(R"({"url":")" + server.url("/" + std::to_string(i)) + R"("})");
    assignment.job.id = JobId("job-" + std::to_string(i));
    runtime->start(std::move(assignment));
  }
  std::set<std::string> ended;
  for (const AttemptResult& result : wait_for(*runtime, kCalls)) {
    EXPECT_EQ(result.outcome, Outcome::completed) << result.error;
    EXPECT_EQ("job-" + result.result.substr(1), result.id.str());
    ended.insert(result.id.str());
  }
  EXPECT_EQ(ended.size(), kCalls);
}

// ---------------------------------------------------------------- statuses

TEST(HttpRuntime, every_class_of_status_has_its_outcome) {
  struct Row {
    int status;
    Outcome outcome;
    bool retryable;
  };

  for (const Row& row : {Row{200, Outcome::completed, true},
                         {204, Outcome::completed, true},
                         {299, Outcome::completed, true},
                         {304, Outcome::failed, false},
                         {400, Outcome::failed, false},
                         {401, Outcome::failed, false},
                         {404, Outcome::failed, false},
                         {408, Outcome::failed, true},
                         {410, Outcome::failed, false},
                         {425, Outcome::failed, true},
                         {429, Outcome::failed, true},
                         {500, Outcome::failed, true},
                         {502, Outcome::failed, true},
                         {504, Outcome::failed, true},
                         {599, Outcome::failed, true}}) {
    const std::string status = std::to_string(row.status);
    HttpServer server([&](const std::string&) { return http_answer(status + " X"); });
    const AttemptResult result = run(get(server));
    EXPECT_EQ(result.outcome, row.outcome) << status;
    if (row.outcome == Outcome::completed) continue;
    EXPECT_EQ(result.error_code, "http_" + status);
    EXPECT_EQ(result.retryable, row.retryable) << status;
  }
}

TEST(HttpRuntime, a_status_that_the_task_or_the_job_expects_completes_it) {
  HttpServer server([](const std::string&) { return http_answer("404 No", "", "nobody"); });
  const AttemptResult by_task = run(get(server), {{"expect", TaskSettings::Texts{"2xx", "404"}}});
  EXPECT_EQ(by_task.outcome, Outcome::completed);
  EXPECT_EQ(by_task.result, "nobody");
  const AttemptResult by_job = run(R"({"url":")" + server.url() + R"(","expect":[404]})");
  EXPECT_EQ(by_job.outcome, Outcome::completed);
}

TEST(HttpRuntime, the_body_of_an_expected_status_is_taken_whole) {
  const std::string page(20'000, 'x');
  HttpServer server([&](const std::string&) { return http_answer("404 No", "", page); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"(","expect":["2xx",404]})");
  EXPECT_EQ(result.outcome, Outcome::completed);
  EXPECT_EQ(result.result, page);
}

TEST(HttpRuntime, a_redirect_with_a_large_body_is_followed) {
  HttpServer server([](const std::string& request) {
    return request.starts_with("GET /there ")
               ? http_answer("200 OK", "", "there")
               : http_answer("302 Found", "Location: /there\r\n", std::string(200'000, 'x'));
  });
  EXPECT_EQ(run(get(server)).result, "there");
}

TEST(HttpRuntime, a_redirect_whose_body_is_endless_ends) {
  HttpServer server([](const std::string&) {
    return HttpAnswer{"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n",
                      HttpAnswer::Then::repeat,
                      std::string(0x1000, 'x')};
  });
  const AttemptResult result = run(get(server));
  EXPECT_EQ(result.error_code, "response_too_large");
  EXPECT_FALSE(result.retryable);
}

TEST(HttpRuntime, a_hundred_continue_in_front_is_no_answer) {
  HttpServer server([](const std::string&) {
    HttpAnswer answer = http_answer("200 OK", "X-Real: yes\r\n", "real");
    answer.bytes = "HTTP/1.1 100 Continue\r\nX-Early: yes\r\n\r\n" + answer.bytes;
    return answer;
  });
  const AttemptResult result = run(get(server), {{"result", "response"}});
  EXPECT_THAT(result.result, AllOf(HasSubstr("X-Real"), Not(HasSubstr("X-Early"))));
}

TEST(HttpRuntime, retry_after_may_be_a_date) {
  HttpServer server([](const std::string&) {
    return http_answer("429 Slow", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
  });
  EXPECT_EQ(run(get(server)).retry_after_ms, 0);  // it is over
  HttpServer later([](const std::string&) {
    return http_answer("429 Slow", "Retry-After: Fri, 01 Jan 2100 00:00:00 GMT\r\n");
  });
  const auto wait = run(get(later)).retry_after_ms;
  EXPECT_EQ(wait, 24 * 3600 * 1000) << "no header parks a job for longer";
}

// ---------------------------------------------------------------- redirects and secrets

TEST(HttpRuntime, a_redirect_to_an_address_that_is_not_allowed_is_refused) {
  HttpServer inner([](const std::string&) { return http_answer("200 OK", "", "inner"); });
  HttpServer server([&](const std::string&) {
    return http_answer("302 Found", "Location: " + inner.url("/", "127.0.0.2") + "\r\n");
  });
  Values values{{"allow", TaskSettings::Texts{"127.0.0.1"}}};
  const AttemptResult result = run(get(server), std::move(values), false);
  EXPECT_EQ(result.error_code, "target_refused");
  EXPECT_FALSE(result.retryable);
  EXPECT_EQ(inner.seen(), "");
}

TEST(HttpRuntime, a_redirect_to_another_scheme_is_refused) {
  HttpServer server([](const std::string&) {
    return http_answer("302 Found", "Location: file:///etc/passwd\r\n");
  });
  const AttemptResult result = run(get(server));
  EXPECT_EQ(result.error_code, "target_refused");
  EXPECT_FALSE(result.retryable);
}

TEST(HttpRuntime, a_job_s_own_header_does_not_follow_to_another_origin) {
  HttpServer other([](const std::string&) { return http_answer("200 OK"); });
  HttpServer server([&](const std::string&) {
    return http_answer("307 Over there", "Location: " + other.url("/x") + "\r\n");
  });
  const AttemptResult result =
      run(R"({"url":")" + server.url() +
          R"(","body":"b","headers":{"X-Token":"t-1","Cookie":"c-1","Accept":"text/plain"}})");
  EXPECT_EQ(result.outcome, Outcome::completed);
  EXPECT_THAT(server.seen(), AllOf(HasSubstr("t-1"), HasSubstr("c-1")));
  EXPECT_THAT(other.seen(), AllOf(HasSubstr("POST /x"), HasSubstr("Accept: text/plain")));
  EXPECT_THAT(other.seen(), AllOf(Not(HasSubstr("t-1")), Not(HasSubstr("c-1"))));
}

TEST(HttpRuntime, secrets_of_jobs_need_a_base_url_to_be_sent_to) {
  TaskSettings settings("call", {{"secrets", TaskSettings::Texts{"HTTP_TEST"}}});
  const auto added = HttpRuntimeBuilder().add(settings);
  ASSERT_FALSE(added);
  EXPECT_THAT(added.error().where, HasSubstr("secrets"));
  EXPECT_THAT(added.error().detail, HasSubstr("base_url"));
}

// A folder with one secret in a file, gone with the test.
class SecretFile {
 public:
  SecretFile(const std::string& name, const std::string& value, mode_t mode) {
    char path[] = "/tmp/sluice-secret-XXXXXX";
    folder_ = ::mkdtemp(path);
    std::ofstream(folder_ + "/" + name) << value;
    ::chmod((folder_ + "/" + name).c_str(), mode);
  }

  ~SecretFile() { std::filesystem::remove_all(folder_); }

  SecretFile(const SecretFile&) = delete;
  SecretFile& operator=(const SecretFile&) = delete;

  [[nodiscard]] Values task(const HttpServer& server) const {
    return {{"base_url", server.url("")},
            {"secrets_dir", folder_},
            {"secrets", TaskSettings::Texts{"FROM_FILE"}}};
  }

 private:
  std::string folder_;
};

constexpr const char* kWithSecret = R"({"url":"/a","headers":{"X-Key":"secret:FROM_FILE"}})";

TEST(HttpRuntime, a_secret_comes_from_a_private_file_and_stays_out_of_errors) {
  const SecretFile file("FROM_FILE", "file-value\n", 0600);
  HttpServer server(
      [](const std::string&) { return http_answer("400 Bad", "", "what is file-value?"); });
  const AttemptResult result = run(kWithSecret, file.task(server));
  EXPECT_THAT(server.seen(), HasSubstr("X-Key: file-value\r\n"));
  EXPECT_EQ(result.error_code, "http_400");
  EXPECT_THAT(result.error, AllOf(HasSubstr("[secret:FROM_FILE]"), Not(HasSubstr("file-value"))));
}

TEST(HttpRuntime, a_secret_s_file_that_others_may_read_is_refused) {
  const SecretFile file("FROM_FILE", "file-value\n", 0644);
  HttpServer server([](const std::string&) { return http_answer("200 OK"); });
  const AttemptResult result = run(kWithSecret, file.task(server));
  EXPECT_EQ(result.error_code, "secret_refused");
  EXPECT_THAT(result.error, HasSubstr("0600"));
  EXPECT_EQ(server.seen(), "");
}

TEST(HttpRuntime, a_secret_that_is_not_there_is_refused_before_anything_is_sent) {
  const SecretFile file("ANOTHER", "x", 0600);
  HttpServer server([](const std::string&) { return http_answer("200 OK"); });
  const AttemptResult result = run(kWithSecret, file.task(server));
  EXPECT_EQ(result.error_code, "secret_refused");
  EXPECT_EQ(server.seen(), "");
}

TEST(RetryAfter, is_seconds_or_a_date) {
  constexpr std::int64_t kNow = 784'111'777'000;  // Sun, 06 Nov 1994 08:49:37 GMT
  EXPECT_EQ(parse_retry_after("120", kNow), 120'000);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:47 GMT", kNow), 10'000);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:00:00 GMT", kNow), 0);
  EXPECT_EQ(parse_retry_after("-5", kNow), std::nullopt);
  EXPECT_EQ(parse_retry_after("soon", kNow), std::nullopt);
}

}  // namespace
}  // namespace sluice::worker_http_test
