// Calls over TLS: whom a task believes, and what it says when it does not.
#include <filesystem>
#include <fstream>
#include <optional>

#include <gmock/gmock.h>

#include "tests/support/http_job.h"
#include "tests/support/python_server.h"

namespace sluice::worker_tls_test {
namespace {

using namespace http_job;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// tests/support/tls_servers.py, once for all tests.
class HttpsCalls : public NoDescriptorLeft {
 protected:
  static void SetUpTestSuite() {
    char folder[] = "/tmp/sluice-tls-XXXXXX";
    folder_ = ::mkdtemp(folder);
    servers_.emplace("tls_servers.py", std::vector<std::string>{folder_});
  }

  static void TearDownTestSuite() {
    servers_.reset();
    std::filesystem::remove_all(folder_);
  }

  static int port_of(const std::string& name) {
    return servers_->said().at("ports").at(name).get<int>();
  }

  static std::string url_of(const std::string& name, const std::string& path = "/") {
    return "https://127.0.0.1:" + std::to_string(port_of(name)) + path;
  }

  static std::string ca_file() { return servers_->said().at("ca_file").get<std::string>(); }

  static AttemptResult ask(const std::string& name, Values values = {{"ca_file", ca_file()}}) {
    return run(get(url_of(name)), std::move(values));
  }

  inline static std::string folder_;
  inline static std::optional<PythonServer> servers_;
};

void expect_tls_failed(const AttemptResult& result, const std::string& what) {
  EXPECT_EQ(result.outcome, Outcome::failed) << what;
  EXPECT_EQ(result.error_code, "tls_failed") << what << ": " << result.error;
  EXPECT_TRUE(result.retryable) << what << ": certificates are renewed";
}

TEST_F(HttpsCalls, a_server_whose_certificate_is_of_the_ca_is_called) {
  const AttemptResult result = ask("good");
  EXPECT_EQ(result.outcome, Outcome::completed) << result.error;
  EXPECT_THAT(result.result, HasSubstr("Idempotency-Key: job-1"));
}

TEST_F(HttpsCalls, a_server_that_would_rather_speak_http_2_is_spoken_to_in_http_1_1) {
  EXPECT_THAT(ask("good").result, HasSubstr("ALPN: http/1.1"));
}

TEST_F(HttpsCalls, a_server_that_is_not_to_be_believed_is_told_nothing) {
  for (const auto& [name, word] : {std::pair{"unknown_ca", "certificate"},
                                   {"other_host", "127.0.0.1"},
                                   {"expired", "expired"},
                                   {"old", "protocol"},
                                   {"plain", "version"}}) {
    const AttemptResult result = ask(name);
    expect_tls_failed(result, name);
    EXPECT_THAT(result.error, HasSubstr(word)) << name;
    EXPECT_EQ(connections_to(port_of(name)), 0U) << name;
  }
}

TEST_F(HttpsCalls, a_ca_that_the_system_does_not_know_is_believed_by_no_task_without_ca_file) {
  expect_tls_failed(ask("good", {}), "the system's");
}

TEST_F(HttpsCalls, a_ca_file_that_is_not_there_or_holds_none_is_named) {
  const std::string empty = folder_ + "/empty.pem";
  std::ofstream{empty};
  for (const std::string& path : {folder_ + "/nobody.pem", empty}) {
    const AttemptResult result = ask("good", {{"ca_file", path}});
    expect_tls_failed(result, path);
    EXPECT_THAT(result.error, HasSubstr(path));
  }
}

TEST_F(HttpsCalls, an_answer_without_length_that_is_cut_off_is_not_taken_for_a_whole_one) {
  const Values values{{"ca_file", ca_file()}};
  const AttemptResult ended = run(get(url_of("good", "/ended")), values);
  EXPECT_EQ(ended.outcome, Outcome::completed) << ended.error;
  EXPECT_EQ(ended.result, "half an answer");
  const AttemptResult cut = run(get(url_of("good", "/cut")), values);
  EXPECT_EQ(cut.outcome, Outcome::failed);
  EXPECT_EQ(cut.error_code, "response_incomplete") << cut.error;
  EXPECT_TRUE(cut.retryable);
  EXPECT_THAT(cut.error, HasSubstr("the connection was cut before the end of the answer"));
}

TEST_F(HttpsCalls, calls_one_after_the_other_use_one_connection) {
  const auto runtime = runtime_with({{"ca_file", ca_file()}});
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(run(*runtime, assignment_of(get(url_of("good")))).outcome, Outcome::completed);
  EXPECT_EQ(connections_to(port_of("good")), 1U);
}

TEST_F(HttpsCalls, a_kept_connection_is_of_no_use_to_a_task_that_believes_others) {
  HttpRuntimeBuilder builder;
  const TaskSettings::Texts loopback{"127.0.0.0/8"};
  add_task(builder, "ours", {{"allow", loopback}, {"ca_file", ca_file()}});
  add_task(builder, "the_system_s", {{"allow", loopback}});
  add_task(builder, "strict", {{"ca_file", ca_file()}});
  const auto runtime = builder.build();
  const std::string payload = get(url_of("good"));
  EXPECT_EQ(run(*runtime, assignment_of(payload, "1", "ours")).outcome, Outcome::completed);
  EXPECT_EQ(connections_to(port_of("good")), 1U);
  expect_tls_failed(run(*runtime, assignment_of(payload, "2", "the_system_s")), "another CA");
  EXPECT_EQ(run(*runtime, assignment_of(payload, "3", "strict")).error_code, "target_refused");
}

TEST_F(HttpsCalls, a_redirect_out_of_tls_takes_nothing_along_that_may_be_a_credential) {
  HttpServer plain([](const std::string&) { return http_answer("200 OK", "", "in the open"); });
  ::setenv("SLUICE_SECRET_TLS_TEST", "hunter-two", 1);
  const Values values{{"ca_file", ca_file()},
                      {"base_url", url_of("good", "")},
                      {"secrets", TaskSettings::Texts{"TLS_TEST"}},
                      {"headers", TaskSettings::TextMap{{"X-Api-Key", "secret:TLS_TEST"}}}};
  const AttemptResult result =
      run(R"({"url":"/to?)" + plain.url("/landed") +
              R"(","headers":{"Authorization":"Bearer secret:TLS_TEST","Cookie":"c-1",)" +
              R"("X-Own":"own-1","Accept":"text/plain"}})",
          values);
  EXPECT_EQ(result.result, "in the open") << result.error;
  EXPECT_THAT(plain.seen(), AllOf(HasSubstr("GET /landed "), HasSubstr("Accept: text/plain")));
  for (const char* word : {"hunter-two", "Authorization", "Cookie", "X-Api-Key", "own-1"})
    EXPECT_THAT(plain.seen(), Not(HasSubstr(word)));
}

TEST_F(HttpsCalls, a_handshake_without_an_answer_ends_with_the_connect_time_out) {
  HttpServer mute([](const std::string&) { return HttpAnswer{}; });  // a hello is no request
  const std::string url = "https://127.0.0.1:" + std::to_string(mute.port()) + "/";
  const AttemptResult result = run(get(url), {{"connect_timeout", "50ms"}, {"call_timeout", "1h"}});
  EXPECT_EQ(result.error_code, "timeout") << result.error;
  EXPECT_TRUE(result.retryable);
}

TEST_F(HttpsCalls, a_call_in_its_handshake_is_cancelled_at_once) {
  HttpServer mute([](const std::string&) { return HttpAnswer{}; });
  const auto runtime = runtime_with({});
  runtime->start(assignment_of(get("https://127.0.0.1:" + std::to_string(mute.port()) + "/")));
  std::vector<RuntimeEvent> events;
  while (mute.received_bytes() == 0) {
    pollfd ready{runtime->fd(), POLLIN, 0};
    ::poll(&ready, 1, 5);  // also looks whether the hello has come
    runtime->poll(clock_now(), events);
  }
  runtime->stop(JobId("job-1"), {7, 1}, StopReason::cancel);
  EXPECT_EQ(connections_to(mute.port()), 0U);
  runtime->poll(clock_now(), events);
  ASSERT_EQ(events.size(), 2U);  // a line of its log first
  EXPECT_EQ(std::get<AttemptDone>(events.back()).result.outcome, Outcome::cancelled);
}

}  // namespace
}  // namespace sluice::worker_tls_test
