// Connections that are kept for the next call, who may use them, where a call goes at all, and how
// it is cancelled.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "tests/support/http_job.h"

namespace sluice::worker_http_connections_test {
namespace {

using namespace http_job;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

class HttpConnections : public NoDescriptorLeft {};

// Answers with the path, and keeps the connection.
HttpAnswer path_of(const std::string& request) {
  return kept_answer(request.substr(4, request.find(' ', 4) - 4));
}

TEST_F(HttpConnections, calls_one_after_the_other_use_one_connection) {
  HttpServer server(path_of);
  const auto runtime = runtime_with({});
  for (int i = 0; i < 20; ++i) {
    const std::string path = "/" + std::to_string(i);
    EXPECT_EQ(run(*runtime, assignment_of(get(server.url(path)))).result, path);
  }
  EXPECT_EQ(server.connection_count(), 1U);
  EXPECT_EQ(connections_to(server.port()), 1U);
}

TEST_F(HttpConnections, as_many_calls_at_once_as_before_use_the_connections_of_those) {
  constexpr std::size_t kCalls = 50;
  HttpServer server(path_of, kCalls);  // all of the first are under way at once
  HttpServer other(path_of);
  const auto runtime = runtime_with({});
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(run(*runtime, assignment_of(get(other))).result, "/");
    for (std::size_t i = 0; i < kCalls; ++i)
      runtime->start(assignment_of(get(server), "job-" + std::to_string(i)));
    EXPECT_EQ(wait_for(*runtime, kCalls).size(), kCalls);
    EXPECT_EQ(connections_to(server.port()), kCalls);
  }
  EXPECT_EQ(server.connection_count(), kCalls);
  EXPECT_EQ(other.connection_count(), 1U);
}

TEST_F(HttpConnections, one_is_kept_also_while_hundreds_of_others_are_in_use) {
  constexpr std::size_t kHeld = 300;
  HttpServer server([](const std::string& request) {
    return request.starts_with("GET /held ") ? HttpAnswer{{}, HttpAnswer::Then::hold, {}}
                                             : path_of(request);
  });
  const auto runtime = runtime_with({});
  for (std::size_t i = 0; i < kHeld; ++i)
    runtime->start(assignment_of(get(server.url("/held")), "job-" + std::to_string(i)));
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(run(*runtime, assignment_of(get(server), "quick")).result, "/");
  EXPECT_EQ(connections_to(server.port()), kHeld + 1);
  EXPECT_EQ(server.connection_count(), kHeld + 1);
}

HttpAnswer in_chunks(const std::string&) {
  return {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n/\r\n0\r\n\r\n",
          HttpAnswer::Then::keep};
}

HttpAnswer long_one(const std::string&) {
  return kept_answer("/" + std::string(100'000, ' '));
}

class HttpConnectionsAfterMany
    : public NoDescriptorLeft,
      public testing::WithParamInterface<HttpAnswer (*)(const std::string&)> {};

// Whenever it is known that an answer is whole: with its head, or by its last byte.
INSTANTIATE_TEST_SUITE_P(HttpConnections,
                         HttpConnectionsAfterMany,
                         testing::Values(&path_of, &in_chunks, &long_one));

TEST_P(HttpConnectionsAfterMany, few_stay_open_and_those_are_used_again) {
  constexpr std::size_t kCalls = 400;
  ASSERT_TRUE(can_have_open(kCalls));
  HttpServer server(GetParam(), kCalls);
  const auto runtime = runtime_with({});
  for (std::size_t i = 0; i < kCalls; ++i)
    runtime->start(assignment_of(get(server), "job-" + std::to_string(i)));
  EXPECT_EQ(wait_for(*runtime, kCalls).size(), kCalls);
  EXPECT_EQ(server.connection_count(), kCalls);
  EXPECT_EQ(connections_to(server.port()), 256U);
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(run(*runtime, assignment_of(get(server))).result.starts_with('/'));
  EXPECT_EQ(server.connection_count(), kCalls);
}

TEST_F(HttpConnections, one_is_kept_also_after_hundreds_of_calls_that_failed_or_were_cancelled) {
  constexpr std::size_t kCalls = 300;
  HttpServer server([](const std::string& request) {
    return request.starts_with("GET /held ") ? HttpAnswer{{}, HttpAnswer::Then::hold, {}}
                                             : path_of(request);
  });
  const auto runtime = runtime_with({});
  for (std::size_t i = 0; i < kCalls; ++i)
    runtime->start(assignment_of(get("http://127.0.0.1:1/"), "down-" + std::to_string(i)));
  EXPECT_EQ(wait_for(*runtime, kCalls).size(), kCalls);
  for (std::size_t i = 0; i < kCalls; ++i)
    runtime->start(assignment_of(get(server.url("/held")), "held-" + std::to_string(i)));
  EXPECT_EQ(run(*runtime, assignment_of(get(server), "first")).result, "/");
  for (std::size_t i = 0; i < kCalls; ++i)
    runtime->stop(JobId("held-" + std::to_string(i)), {7, 1}, StopReason::cancel);
  EXPECT_EQ(wait_for(*runtime, kCalls).size(), kCalls);
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(run(*runtime, assignment_of(get(server), "later")).result, "/");
  EXPECT_EQ(connections_to(server.port()), 1U);
  EXPECT_EQ(server.connection_count(), kCalls + 1);
}

TEST_F(HttpConnections, a_server_that_closed_a_kept_one_is_connected_to_anew) {
  HttpServer server([](const std::string& request) {
    HttpAnswer answer = path_of(request);
    answer.then = HttpAnswer::Then::close;  // which its headers do not say
    return answer;
  });
  const auto runtime = runtime_with({});
  for (const std::string path : {"/1", "/2", "/3"})
    EXPECT_EQ(run(*runtime, assignment_of(get(server.url(path)))).result, path);
  EXPECT_EQ(server.connection_count(), 3U);
}

// ---------------------------------------------------------------- where a call goes

TEST_F(HttpConnections, a_kept_one_is_of_no_use_to_a_task_with_stricter_rules) {
  HttpServer server(path_of);
  HttpRuntimeBuilder builder;
  add_task(builder, "by_network", {{"allow", TaskSettings::Texts{"127.0.0.0/8"}}});
  add_task(builder, "by_name", {{"allow", TaskSettings::Texts{"localhost"}}});
  add_task(builder, "elsewhere", {{"allow", TaskSettings::Texts{"10.0.0.0/8"}}});
  add_task(builder, "strict", {});
  const auto runtime = builder.build();
  const std::string by_number = get(server.url("/number"));
  const std::string by_name = get(server.url("/name", "localhost"));
  EXPECT_EQ(run(*runtime, assignment_of(by_number, "1", "by_network")).result, "/number");
  EXPECT_EQ(run(*runtime, assignment_of(by_name, "2", "by_name")).result, "/name");
  const std::string seen = server.seen();
  for (const auto& [task, payload] : {std::pair{"strict", by_number},
                                      {"strict", by_name},
                                      {"elsewhere", by_number},
                                      {"elsewhere", by_name},
                                      {"by_name", by_number}}) {
    const AttemptResult result = run(*runtime, assignment_of(payload, "3", task));
    EXPECT_EQ(result.error_code, "target_refused") << task << payload << result.error;
    EXPECT_FALSE(result.retryable);
  }
  EXPECT_EQ(server.seen(), seen);
}

TEST_F(HttpConnections, no_spelling_of_an_inner_address_is_called) {
  HttpServer server(path_of);
  for (const char* host : {"localhost",
                           "LOCALHOST",
                           "inner.localhost",
                           "127.1",
                           "0x7f.1",
                           "2130706433",
                           "017700000001",
                           "0",
                           "[::]",
                           "[::1]",
                           "[::127.0.0.1]",
                           "[::ffff:127.0.0.1]",
                           "[::ffff:7f00:1]",
                           "[64:ff9b::7f00:1]"}) {
    const AttemptResult result = run(get(server.url("/", host)), {}, false);
    // Where there is no IPv6 such an address does not even exist.
    EXPECT_THAT(result.error_code,
                *host == '[' ? AnyOf("target_refused", "dns_failed")
                             : AnyOf("target_refused", "target_refused"))
        << host << ": " << result.error;
  }
  EXPECT_EQ(server.connection_count(), 0U);
}

// "localhost" has two addresses, of which only one is allowed here.
TEST_F(HttpConnections, a_host_with_an_address_that_is_allowed_fails_by_that_one_s_fault) {
  HttpServer server([](const std::string&) { return HttpAnswer{{}, HttpAnswer::Then::hold, {}}; });
  const AttemptResult silent = run(get(server.url("/", "localhost")), {{"call_timeout", "50ms"}});
  EXPECT_EQ(silent.error_code, "timeout") << silent.error;
  EXPECT_TRUE(silent.retryable);
  const AttemptResult down = run(get("http://localhost:1/"));
  EXPECT_EQ(down.error_code, "connect_failed") << down.error;
  EXPECT_TRUE(down.retryable);
}

// Sets variables of the environment, and what they were again.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& values) {
    for (const auto& [name, value] : values) {
      const char* before = std::getenv(name.c_str());
      before_[name] = before == nullptr ? std::nullopt : std::optional<std::string>(before);
      ::setenv(name.c_str(), value.c_str(), 1);
    }
  }

  ~Environment() {
    for (const auto& [name, value] : before_)
      if (value)
        ::setenv(name.c_str(), value->c_str(), 1);
      else
        ::unsetenv(name.c_str());
  }

  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(HttpConnections, a_proxy_of_the_environment_and_a_netrc_are_nothing_to_a_call) {
  HttpServer proxy([](const std::string&) { return http_answer("200 OK", "", "the proxy"); });
  HttpServer server(path_of);
  char home[] = "/tmp/sluice-home-XXXXXX";
  ASSERT_NE(::mkdtemp(home), nullptr);
  for (const char* name : {"/.netrc", "/_netrc", "/.curlrc"})
    std::ofstream(home + std::string(name)) << "default login somebody password hunter-two\n";
  {
    const Environment environment({{"HOME", home},
                                   {"CURL_HOME", home},
                                   {"NETRC", home + std::string("/.netrc")},
                                   {"http_proxy", proxy.url()},
                                   {"HTTP_PROXY", proxy.url()},
                                   {"all_proxy", proxy.url()},
                                   {"ALL_PROXY", proxy.url()},
                                   {"no_proxy", ""},
                                   {"NO_PROXY", ""}});
    EXPECT_EQ(run(get(server)).result, "/");
  }
  std::filesystem::remove_all(home);
  EXPECT_EQ(proxy.connection_count(), 0U);
  EXPECT_THAT(server.seen(), Not(HasSubstr("uthorization")));
}

// ---------------------------------------------------------------- cancellation

TEST_F(HttpConnections, one_of_hundreds_is_cancelled_at_once_and_its_connection_ends_with_it) {
  constexpr std::size_t kCalls = 300;
  constexpr std::size_t kCancelled = 51;
  // "/last" is answered when all others have been sent, and they never are.
  HttpServer server(
      [](const std::string& request) {
        return request.starts_with("GET /last ") ? path_of(request)
                                                 : HttpAnswer{{}, HttpAnswer::Then::hold, {}};
      },
      kCalls + 1);
  const auto runtime = runtime_with({});
  for (std::size_t i = 0; i < kCalls; ++i)
    runtime->start(assignment_of(get(server), "job-" + std::to_string(i)));
  EXPECT_EQ(run(*runtime, assignment_of(get(server.url("/last")), "last")).result, "/last");
  std::vector<double> took_ms;
  for (std::size_t i = 0; i < kCancelled; ++i) {
    const std::string id = "job-" + std::to_string(i * 5);
    const std::size_t open = connections_to(server.port());
    std::vector<RuntimeEvent> events;
    const auto begin = std::chrono::steady_clock::now();
    runtime->stop(JobId(id), {7, 1}, StopReason::cancel);
    pollfd ready{runtime->fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 0), 1) << "the loop is woken at once";
    runtime->poll(clock_now(), events);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    took_ms.push_back(took.count());
    ASSERT_EQ(events.size(), 2U);  // a line of its log first
    const AttemptResult& result = std::get<AttemptDone>(events.back()).result;
    EXPECT_EQ(result.id.str(), id);
    EXPECT_EQ(result.outcome, Outcome::cancelled);
    EXPECT_EQ(connections_to(server.port()), open - 1);
  }
  std::ranges::sort(took_ms);
  std::printf("cancelled among %zu calls in %.3f ms (least %.3f, most %.3f)\n",
              kCalls,
              took_ms[kCancelled / 2],
              took_ms.front(),
              took_ms.back());
  // The median: one turn may be another process's.
  EXPECT_LT(took_ms[kCancelled / 2], 50);
}

}  // namespace
}  // namespace sluice::worker_http_connections_test
