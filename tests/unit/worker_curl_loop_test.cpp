// Pauses that a target asks for, and calls that wait for room; worker_http_test.cpp has the rest.
#include <poll.h>

#include <atomic>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/clock.h"
#include "tests/support/http_server.h"
#include "worker/tasks/curl_loop.h"

namespace sluice::worker_curl_loop_test {
namespace {

HttpRequest request_to(const HttpServer& server, std::int64_t deadline_mono_ms = kNever) {
  HttpRequest request;
  request.target = *parse_target(server.url());
  request.rules = std::make_shared<const TargetRules>(*TargetRules::parse({"127.0.0.0/8"}));
  request.deadline_mono_ms = deadline_mono_ms;
  return request;
}

// The long time-out only ends a test that hangs.
FinishedCall next_of(CurlLoop& loop) {
  std::vector<FinishedCall> finished;
  while (finished.empty()) {
    pollfd ready{loop.fd(), POLLIN, 0};
    if (::poll(&ready, 1, 60'000) <= 0) return {};
    finished = loop.poll();
  }
  EXPECT_EQ(finished.size(), 1U);
  return finished.front();
}

// Its first answer is this, every other one 200.
struct FirstAnswers {
  explicit FirstAnswers(const std::string& headers, const std::string& body = {})
      : server([this, headers, body](const std::string&) {
          return ++calls == 1 ? http_answer("429 Slow", headers, body) : http_answer("200 OK");
        }) {}

  std::atomic<int> calls = 0;
  HttpServer server;
};

TEST(CurlLoop, a_429_holds_back_calls_to_its_origin_for_the_time_it_names_and_no_others) {
  FirstAnswers busy("Retry-After: 1\r\n");
  HttpServer other([](const std::string&) { return http_answer("200 OK"); });
  CurlLoop loop;
  (void)loop.start(request_to(busy.server));
  EXPECT_EQ(next_of(loop).reply.status, 429);
  const std::int64_t began_ms = monotonic_ms();
  const CallId held = loop.start(request_to(busy.server));
  const CallId free = loop.start(request_to(other));
  EXPECT_EQ(loop.call_count(), 2U);
  EXPECT_EQ(next_of(loop).id, free);
  const FinishedCall after_pause = next_of(loop);
  EXPECT_EQ(after_pause.id, held);
  EXPECT_EQ(after_pause.reply.status, 200);
  EXPECT_GE(monotonic_ms() - began_ms, 900);
}

TEST(CurlLoop, a_call_whose_time_is_over_before_the_pause_is_not_made) {
  FirstAnswers busy("Retry-After: 30\r\n");
  CurlLoop loop;
  (void)loop.start(request_to(busy.server));
  EXPECT_EQ(next_of(loop).reply.status, 429);
  (void)loop.start(request_to(busy.server, monotonic_ms() + 5'000));
  const HttpReply reply = next_of(loop).reply;
  EXPECT_EQ(reply.error_code, "target_paused");
  EXPECT_EQ(reply.error, "not called: it asked (429) for a pause, of which 30 s are left");
  EXPECT_EQ(reply.header("retry-after"), "30");
  EXPECT_TRUE(reply.retryable);
  EXPECT_EQ(busy.calls, 1);
}

TEST(CurlLoop, the_time_of_a_call_begins_after_the_pause) {
  FirstAnswers busy("Retry-After: 1\r\n");
  CurlLoop loop;
  (void)loop.start(request_to(busy.server));
  EXPECT_EQ(next_of(loop).reply.status, 429);
  HttpRequest brief = request_to(busy.server);
  brief.timeout_ms = 900;
  (void)loop.start(std::move(brief));
  EXPECT_EQ(next_of(loop).reply.status, 200);
}

TEST(CurlLoop, a_call_that_waits_for_the_end_of_a_pause_can_be_cancelled) {
  FirstAnswers busy("Retry-After: 30\r\n");
  CurlLoop loop;
  (void)loop.start(request_to(busy.server));
  EXPECT_EQ(next_of(loop).reply.status, 429);
  loop.cancel(loop.start(request_to(busy.server)));
  EXPECT_EQ(loop.call_count(), 0U);
}

TEST(CurlLoop, a_429_that_names_no_time_to_come_pauses_nothing) {
  for (const char* headers : {"", "Retry-After: 0\r\n", "Retry-After: soon\r\n"}) {
    FirstAnswers busy(headers);
    CurlLoop loop;
    (void)loop.start(request_to(busy.server));
    EXPECT_EQ(next_of(loop).reply.status, 429);
    (void)loop.start(request_to(busy.server, monotonic_ms() + 30'000));
    EXPECT_EQ(next_of(loop).reply.status, 200) << headers;
  }
}

TEST(CurlLoop, a_call_that_is_redirected_into_a_pause_which_outlasts_its_time_is_not_made) {
  FirstAnswers busy("Retry-After: 30\r\n");
  HttpServer elsewhere([&](const std::string&) {
    return http_answer("302 Found", "Location: " + busy.server.url() + "\r\n");
  });
  CurlLoop loop;
  (void)loop.start(request_to(busy.server));
  EXPECT_EQ(next_of(loop).reply.status, 429);
  HttpRequest brief = request_to(elsewhere);
  brief.timeout_ms = 5'000;
  (void)loop.start(std::move(brief));
  EXPECT_EQ(next_of(loop).reply.error_code, "target_paused");
  EXPECT_EQ(busy.calls, 1);
}

TEST(CurlLoop, a_pause_that_grows_beyond_the_time_of_a_call_that_waits_ends_the_wait) {
  int calls = 0;
  HttpServer busy([&](const std::string&) {
    return http_answer("429 Slow", ++calls == 1 ? "Retry-After: 10\r\n" : "Retry-After: 600\r\n");
  });
  CurlLoop loop;
  (void)loop.start(request_to(busy));
  EXPECT_EQ(next_of(loop).reply.status, 429);
  const CallId waiting = loop.start(request_to(busy, monotonic_ms() + 60'000));
  HttpRequest urgent = request_to(busy);
  urgent.is_urgent = true;  // not held back, and answered with a longer pause
  const CallId told = loop.start(std::move(urgent));
  std::vector<FinishedCall> finished;
  while (finished.size() < 2) {
    pollfd ready{loop.fd(), POLLIN, 0};
    ASSERT_GT(::poll(&ready, 1, 60'000), 0);
    for (FinishedCall& call : loop.poll())
      finished.push_back(std::move(call));
  }
  for (const FinishedCall& call : finished)
    EXPECT_EQ(call.reply.error_code, call.id == waiting ? "target_paused" : "") << call.id - told;
}

TEST(CurlLoop, a_429_pauses_its_origin_also_when_its_body_is_larger_than_what_is_taken) {
  FirstAnswers busy("Retry-After: 30\r\n", std::string(200'000, 'x'));
  CurlLoop loop;
  (void)loop.start(request_to(busy.server));
  EXPECT_EQ(next_of(loop).reply.error_code, "response_too_large");
  (void)loop.start(request_to(busy.server, monotonic_ms() + 5'000));
  EXPECT_EQ(next_of(loop).reply.error_code, "target_paused");
}

// Answers /quick, and nothing else ever.
struct Holding {
  HttpServer server{[](const std::string& request) {
    return request.starts_with("GET /quick ") ? http_answer("200 OK")
                                              : HttpAnswer{{}, HttpAnswer::Then::hold, {}};
  }};

  [[nodiscard]] HttpRequest request(const std::string& path,
                                    std::size_t calls_per_host,
                                    std::int64_t deadline_mono_ms = kNever) const {
    HttpRequest request = request_to(server, deadline_mono_ms);
    request.target = *parse_target(server.url(path));
    request.group = "t";
    request.calls_per_host = calls_per_host;
    return request;
  }

  [[nodiscard]] bool has_seen(const std::string& path) {
    return server.seen().find("GET " + path + " ") != std::string::npos;
  }
};

void expect_next(CurlLoop& loop, CallId id) {
  EXPECT_EQ(next_of(loop).id, id);
}

TEST(CurlLoop, no_more_calls_of_a_group_than_its_bound_are_under_way_to_one_host) {
  Holding holding;
  CurlLoop loop;
  const CallId first = loop.start(holding.request("/1", 2));
  (void)loop.start(holding.request("/2", 2));
  (void)loop.start(holding.request("/3", 2));
  const CallId last = loop.start(holding.request("/4", 2));
  EXPECT_EQ(loop.call_count(), 4U);
  // Of no group, and begun after them: what was sent at all was sent before its answer.
  expect_next(loop, loop.start(holding.request("/quick", 0)));
  EXPECT_TRUE(holding.has_seen("/1") && holding.has_seen("/2"));
  EXPECT_FALSE(holding.has_seen("/3") || holding.has_seen("/4"));
  loop.cancel(first);
  expect_next(loop, loop.start(holding.request("/quick", 0)));
  EXPECT_TRUE(holding.has_seen("/3")) << "first come, first served";
  EXPECT_FALSE(holding.has_seen("/4"));
  loop.cancel(last);
  EXPECT_EQ(loop.call_count(), 2U);
}

TEST(CurlLoop, a_call_whose_time_is_over_while_it_waits_for_room_is_not_made) {
  Holding holding;
  CurlLoop loop;
  (void)loop.start(holding.request("/1", 1));
  (void)loop.start(holding.request("/2", 1, monotonic_ms() + 20));
  const HttpReply reply = next_of(loop).reply;
  EXPECT_EQ(reply.error_code, "no_room");
  EXPECT_TRUE(reply.retryable);
  EXPECT_FALSE(holding.has_seen("/2"));
  EXPECT_EQ(loop.call_count(), 1U);
}

TEST(CurlLoop, an_urgent_call_waits_for_no_room) {
  Holding holding;
  CurlLoop loop;
  (void)loop.start(holding.request("/1", 1));
  HttpRequest urgent = holding.request("/quick", 1);
  urgent.is_urgent = true;
  expect_next(loop, loop.start(std::move(urgent)));
}

TEST(CurlLoop, a_call_that_is_redirected_to_another_host_leaves_its_room) {
  Holding holding;
  std::atomic<int> calls = 0;
  HttpServer mover([&](const std::string&) {
    return ++calls == 1 ? http_answer("302 Found", "Location: " + holding.server.url("/1") + "\r\n")
                        : http_answer("200 OK");
  });
  CurlLoop loop;
  HttpRequest request = holding.request("/", 1);
  request.target = *parse_target(mover.url());
  (void)loop.start(request);
  expect_next(loop, loop.start(request));
  EXPECT_EQ(loop.call_count(), 1U);
}

TEST(CurlLoop, thousands_that_wait_for_room_and_fail_at_once_do_so_one_after_the_other) {
  std::string url;
  {
    HttpServer gone([](const std::string&) { return http_answer("200 OK"); });
    url = gone.url();
  }
  Holding holding;
  HttpRequest request = holding.request("/", 1);
  request.target = *parse_target(url);
  CurlLoop loop;
  std::size_t ended = 0;
  for (int i = 0; i < 2'000; ++i)
    (void)loop.start(request);
  while (ended < 2'000) {
    pollfd ready{loop.fd(), POLLIN, 0};
    ASSERT_GT(::poll(&ready, 1, 60'000), 0);
    for (const FinishedCall& call : loop.poll()) {
      EXPECT_EQ(call.reply.error_code, "connect_failed");
      ++ended;
    }
  }
  EXPECT_EQ(loop.call_count(), 0U);
}

}  // namespace
}  // namespace sluice::worker_curl_loop_test
