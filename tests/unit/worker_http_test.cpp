#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>

#include "worker/runtime/clock.h"
#include "worker/tasks/http.h"
#include "worker/tasks/retry_after.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::Not;

// Answers one request per connection with the bytes that `answer` makes of it; an empty answer
// leaves the caller waiting until it hangs up.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::function<std::string(const std::string&)> answer)
      : answer_(std::move(answer)), fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(fd_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(fd_, 64);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }

  ~ScriptedServer() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }

  [[nodiscard]] std::string url(const std::string& path = "/") const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }

  [[nodiscard]] std::string seen() {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

 private:
  void serve() {
    for (int peer; (peer = ::accept(fd_, nullptr, nullptr)) >= 0; ::close(peer)) {
      std::string request;
      char buffer[4096];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const ssize_t count = ::recv(peer, buffer, sizeof buffer, 0);
        if (count <= 0) break;
        request.append(buffer, static_cast<std::size_t>(count));
      }
      {
        const std::lock_guard lock(mutex_);
        seen_ += request;
      }
      const std::string answer = answer_(request);
      if (answer.empty())
        (void)::recv(peer, buffer, 1, 0);
      else
        (void)::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }

  std::function<std::string(const std::string&)> answer_;
  int fd_;
  int port_ = 0;
  std::mutex mutex_;  // guards seen_
  std::string seen_;
  std::thread thread_;
};

std::string answer(const std::string& status, const std::string& headers, const std::string& body) {
  return "HTTP/1.1 " + status + "\r\nConnection: close\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

using Values = std::map<std::string, TaskSettings::Value>;

std::unique_ptr<Runtime> runtime_with(Values values, bool allows_loopback = true) {
  if (allows_loopback) values["allow"] = TaskSettings::Texts{"127.0.0.0/8"};
  TaskSettings settings("call", std::move(values));
  HttpRuntimeBuilder builder;
  const auto added = builder.add(settings);
  EXPECT_TRUE(added) << added.error().detail;
  EXPECT_FALSE(settings.untaken());
  return builder.build();
}

Assignment assignment_of(const std::string& payload) {
  Assignment assignment;
  assignment.job.id = JobId("job-1");
  assignment.job.fence = {7, 1};
  assignment.job.task = "call";
  assignment.job.content_type = "application/json";
  assignment.job.payload = payload;
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

AttemptResult run(const std::string& payload, Values values = {}, bool allows_loopback = true) {
  const auto runtime = runtime_with(std::move(values), allows_loopback);
  runtime->start(assignment_of(payload));
  return wait_for(*runtime);
}

TEST(HttpRuntime, body_of_a_200_is_the_result_and_the_job_id_is_the_idempotency_key) {
  ScriptedServer server([](const std::string&) { return answer("200 OK", "", "hello"); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"(","body":{"a":1}})");
  EXPECT_EQ(result.outcome, Outcome::completed);
  EXPECT_EQ(result.result, "hello");
  EXPECT_THAT(server.seen(), HasSubstr("Idempotency-Key: job-1"));
  EXPECT_THAT(server.seen(), HasSubstr("POST / HTTP/1.1"));
}

TEST(HttpRuntime, a_503_is_tried_again_when_the_server_says) {
  ScriptedServer server(
      [](const std::string&) { return answer("503 No", "Retry-After: 7\r\n", "busy"); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})");
  EXPECT_EQ(result.error_code, "http_503");
  EXPECT_TRUE(result.retryable);
  EXPECT_EQ(result.retry_after_ms, 7000);
}

TEST(HttpRuntime, a_404_is_never_tried_again) {
  ScriptedServer server([](const std::string&) { return answer("404 No", "", ""); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})");
  EXPECT_EQ(result.error_code, "http_404");
  EXPECT_FALSE(result.retryable);
}

TEST(HttpRuntime, loopback_is_refused_unless_it_is_allowed) {
  ScriptedServer server([](const std::string&) { return answer("200 OK", "", "inner"); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})", {}, false);
  EXPECT_EQ(result.error_code, "target_refused");
  EXPECT_FALSE(result.retryable);
  EXPECT_EQ(server.seen(), "");
}

TEST(HttpRuntime, an_answer_over_the_cap_is_refused) {
  ScriptedServer server(
      [](const std::string&) { return answer("200 OK", "", std::string(5000, 'x')); });
  const AttemptResult result =
      run(R"({"url":")" + server.url() + R"("})", {{"response_bytes_max", std::int64_t{4096}}});
  EXPECT_EQ(result.error_code, "response_too_large");
  EXPECT_FALSE(result.retryable);
}

TEST(HttpRuntime, a_body_shorter_than_its_length_is_tried_again) {
  ScriptedServer server([](const std::string&) {
    return std::string("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
  });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})");
  EXPECT_EQ(result.error_code, "response_incomplete");
  EXPECT_TRUE(result.retryable);
}

TEST(HttpRuntime, an_endless_redirect_ends) {
  ScriptedServer server(
      [](const std::string&) { return answer("302 Found", "Location: /again\r\n", ""); });
  const AttemptResult result = run(R"({"url":")" + server.url() + R"("})");
  EXPECT_EQ(result.error_code, "too_many_redirects");
  EXPECT_FALSE(result.retryable);
}

TEST(HttpRuntime, a_secret_goes_to_its_origin_only_and_never_into_the_result) {
  ::setenv("SLUICE_SECRET_HTTP_TEST", "hunter-two", 1);
  ScriptedServer other([](const std::string&) { return answer("200 OK", "", "hunter-two came"); });
  ScriptedServer server([&](const std::string&) {
    return answer("302 Found", "Location: " + other.url("/x") + "\r\n", "");
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
  ScriptedServer server([](const std::string&) { return std::string(); });
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

TEST(RetryAfter, is_seconds_or_a_date) {
  constexpr std::int64_t kNow = 784'111'777'000;  // Sun, 06 Nov 1994 08:49:37 GMT
  EXPECT_EQ(parse_retry_after("120", kNow), 120'000);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:47 GMT", kNow), 10'000);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:00:00 GMT", kNow), 0);
  EXPECT_EQ(parse_retry_after("-5", kNow), std::nullopt);
  EXPECT_EQ(parse_retry_after("soon", kNow), std::nullopt);
}

}  // namespace
}  // namespace sluice
