// Servers that are slow, lie about lengths or answer too late: each is a clear outcome, and nothing
// of the call stays open.
#include <gmock/gmock.h>

#include "tests/support/http_job.h"

namespace sluice::worker_http_bad_servers_test {
namespace {

using namespace http_job;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;
using Then = HttpAnswer::Then;

class HttpBadServer : public NoDescriptorLeft {};

AttemptResult answered_with(HttpAnswer answer, Values values = {}) {
  HttpServer server([&](const std::string&) { return answer; });
  const auto runtime = runtime_with(std::move(values));
  AttemptResult result = run(*runtime, assignment_of(get(server)));
  if (result.outcome != Outcome::completed) {
    EXPECT_EQ(connections_to(server.port()), 0U) << "of a call that failed: " << answer.bytes;
  }
  return result;
}

void expect_retried(const AttemptResult& result, const std::string& code, const std::string& what) {
  EXPECT_EQ(result.outcome, Outcome::failed) << what;
  EXPECT_EQ(result.error_code, code) << what << ": " << result.error;
  EXPECT_TRUE(result.retryable) << what;
}

// ---------------------------------------------------------------- slow ones

TEST_F(HttpBadServer, a_header_or_body_that_drips_is_no_stall_but_runs_into_the_call_s_time_out) {
  for (const char* begin : {"", "HTTP/1.1 200 OK\r\nX-Slow: ", "HTTP/1.1 200 OK\r\n\r\n"}) {
    const HttpAnswer answer{begin, Then::drip, *begin == '\0' ? "HTTP/1.1 " : "x"};
    expect_retried(answered_with(answer, {{"call_timeout", "100ms"}, {"stall_timeout", "1h"}}),
                   "timeout",
                   begin);
  }
}

// A listening socket whose line of connections that wait to be accepted is full: more are not even
// answered.
class FullBacklog {
 public:
  FullBacklog()
      : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        waiting_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(listener_, 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    EXPECT_EQ(::connect(waiting_, reinterpret_cast<sockaddr*>(&address), size), 0);
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
  }

  ~FullBacklog() {
    ::close(waiting_);
    ::close(listener_);
  }

  FullBacklog(const FullBacklog&) = delete;
  FullBacklog& operator=(const FullBacklog&) = delete;

  [[nodiscard]] const std::string& url() const { return url_; }

 private:
  int listener_;
  int waiting_;
  std::string url_;
};

TEST_F(HttpBadServer, a_server_that_accepts_nobody_runs_into_the_connect_time_out) {
  const FullBacklog server;
  expect_retried(run(get(server.url()), {{"connect_timeout", "50ms"}, {"call_timeout", "1h"}}),
                 "timeout",
                 "not accepted");
}

TEST_F(HttpBadServer, a_call_that_connects_is_cancelled_at_once) {
  const FullBacklog server;
  const auto runtime = runtime_with({{"connect_timeout", "1h"}});
  const std::size_t idle = open_descriptors().size();
  runtime->start(assignment_of(get(server.url())));
  std::vector<RuntimeEvent> events;
  while (open_descriptors().size() == idle) {
    pollfd ready{runtime->fd(), POLLIN, 0};
    ASSERT_GT(::poll(&ready, 1, 60'000), 0);
    runtime->poll(clock_now(), events);
  }
  runtime->stop(JobId("job-1"), {7, 1}, StopReason::cancel);
  EXPECT_EQ(open_descriptors().size(), idle) << "its connection ends with it";
  runtime->poll(clock_now(), events);
  ASSERT_EQ(events.size(), 2U);  // a line of its log first
  EXPECT_EQ(std::get<AttemptDone>(events.back()).result.outcome, Outcome::cancelled);
}

// ---------------------------------------------------------------- wrong lengths

constexpr const char* kOk = "HTTP/1.1 200 OK\r\n";
constexpr const char* kChunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

TEST_F(HttpBadServer, an_answer_whose_length_is_not_one_is_no_answer) {
  for (const std::string headers : {"Content-Length: 5\r\nContent-Length: 11\r\n",
                                    "Content-Length: 11\r\ncontent-length: 5\r\n",
                                    "Content-Length: 5, 11\r\n",
                                    "Content-Length: -5\r\n",
                                    "Content-Length: five\r\n",
                                    "Content-Length: 5five\r\n",
                                    "Content-Length: 0x5\r\n",
                                    "Content-Length:\r\n",
                                    "Content-Length: 99999999999999999999\r\n"}) {
    const AttemptResult result = answered_with({kOk + headers + "\r\nhello world"});
    expect_retried(result, "bad_response", headers);
    EXPECT_THAT(result.error, HasSubstr("ength")) << headers;
  }
}

TEST_F(HttpBadServer, a_length_said_twice_alike_or_beside_chunks_is_one) {
  for (const std::string answer :
       {"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"})
    EXPECT_EQ(answered_with({kOk + answer}).result, "hello") << answer;
}

TEST_F(HttpBadServer, a_body_longer_than_said_is_cut_and_the_rest_is_nobody_s_answer) {
  int calls = 0;
  HttpServer server([&](const std::string&) {
    if (++calls > 1) return kept_answer("the second");
    HttpAnswer first = kept_answer("first");
    first.bytes += "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    return first;
  });
  const auto runtime = runtime_with({});
  EXPECT_EQ(run(*runtime, assignment_of(get(server))).result, "first");
  EXPECT_EQ(run(*runtime, assignment_of(get(server), "job-2")).result, "the second");
}

TEST_F(HttpBadServer, broken_chunks_are_no_answer) {
  for (const char* chunks : {"zz\r\nhello\r\n",
                             "-5\r\nhello\r\n0\r\n\r\n",
                             "5\r\nhello\r\nzz\r\n",
                             "2\r\nhello\r\n0\r\n\r\n",
                             "FFFFFFFFFFFFFFFFFF\r\nhello"})
    expect_retried(answered_with({kChunked + std::string(chunks)}), "bad_response", chunks);
}

TEST_F(HttpBadServer, chunks_that_end_too_soon_are_incomplete) {
  for (const char* chunks : {"", "5", "5\r\nhel", "5\r\nhello\r\n", "FFFFFFF\r\nhello"})
    expect_retried(answered_with({kChunked + std::string(chunks)}), "response_incomplete", chunks);
  const HttpAnswer cut{"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhel"};
  EXPECT_EQ(answered_with(cut).error_code, "http_404");
  expect_retried(answered_with(cut, {{"expect", TaskSettings::Texts{"2xx", "404"}}}),
                 "response_incomplete",
                 "of a status that was wanted");
}

TEST_F(HttpBadServer, a_connection_that_is_reset_in_the_middle_is_lost) {
  // Nobody knows whether the beginning is read before the reset.
  HttpServer server([](const std::string&) {
    return HttpAnswer{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin", Then::reset};
  });
  expect_retried(run(get(server)), "connection_lost", "reset");
}

TEST_F(HttpBadServer, a_head_that_is_none_is_no_answer) {
  for (const std::string bytes : {"HTTP/1.1 twohundred OK\r\n\r\n",
                                  "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
                                  "<html>not found</html>\r\n\r\n",
                                  "\r\n\r\n\r\n\r\n"})
    expect_retried(answered_with({bytes}), "bad_response", bytes);
  std::string nul = "HTTP/1.1 200 OK\r\nX: a~b\r\nContent-Length: 0\r\n\r\n";
  nul[nul.find('~')] = '\0';
  expect_retried(answered_with({nul}), "bad_response", "a NUL");
}

TEST_F(HttpBadServer, one_endless_header_is_cut_as_many_are) {
  const AttemptResult result =
      answered_with({"HTTP/1.1 200 OK\r\nX-More: ", Then::repeat, std::string(0x1000, 'h')});
  EXPECT_EQ(result.error_code, "response_too_large") << result.error;
  EXPECT_FALSE(result.retryable);
}

// ---------------------------------------------------------------- compressed bodies

// What it would grow to does not matter: nobody asks for compressed bodies, and nobody inflates
// one.
TEST_F(HttpBadServer, a_compressed_body_is_taken_and_counted_as_it_comes) {
  const std::string gzip =
      std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03", 10) + std::string(4000, '\x55');
  for (const char* encoding : {"gzip", "deflate", "br", "zstd", "gzip, gzip"}) {
    HttpServer server([&](const std::string&) {
      return http_answer("200 OK", "Content-Encoding: " + std::string(encoding) + "\r\n", gzip);
    });
    const AttemptResult within =
        run(get(server), {{"response_bytes_max", static_cast<std::int64_t>(gzip.size())}});
    EXPECT_EQ(within.outcome, Outcome::completed) << encoding << ": " << within.error;
    EXPECT_EQ(within.result, gzip) << encoding;
    const AttemptResult above =
        run(get(server), {{"response_bytes_max", static_cast<std::int64_t>(gzip.size() - 1)}});
    EXPECT_EQ(above.error_code, "response_too_large") << encoding;
    EXPECT_THAT(server.seen(), Not(HasSubstr("ccept-Encoding")));
  }
}

TEST_F(HttpBadServer, a_compressed_body_that_a_job_asks_for_comes_compressed_too) {
  HttpServer server([](const std::string&) {
    return http_answer("200 OK", "Content-Encoding: gzip\r\n", "\x1f\x8b raw");
  });
  const AttemptResult result =
      run(R"({"url":")" + server.url() + R"(","headers":{"Accept-Encoding":"gzip"}})");
  EXPECT_EQ(result.result, "\x1f\x8b raw");
  EXPECT_THAT(server.seen(), HasSubstr("Accept-Encoding: gzip"));
}

// ---------------------------------------------------------------- answers that come too late

TEST_F(HttpBadServer, an_answer_after_the_time_out_is_nobody_s_and_the_next_call_gets_its_own) {
  // Both are answered when the second has come: too late for the first.
  HttpServer server(
      [](const std::string& request) {
        return kept_answer(request.substr(4, request.find(' ', 4) - 4));
      },
      2);
  const auto runtime = runtime_with({{"call_timeout", "50ms"}});
  const AttemptResult first = run(*runtime, assignment_of(get(server.url("/first"))));
  expect_retried(first, "timeout", "the first");
  EXPECT_EQ(connections_to(server.port()), 0U);
  const auto patient = runtime_with({});
  const AttemptResult second = run(*patient, assignment_of(get(server.url("/second")), "job-2"));
  EXPECT_EQ(second.result, "/second");
  EXPECT_EQ(server.connection_count(), 2U);
  std::vector<RuntimeEvent> events;
  runtime->poll(clock_now(), events);
  EXPECT_TRUE(events.empty()) << "one report of each";
}

TEST_F(HttpBadServer, an_answer_that_nobody_asked_for_is_not_the_next_call_s) {
  HttpServer server([](const std::string& request) {
    HttpAnswer answer = kept_answer(request.substr(4, request.find(' ', 4) - 4));
    if (request.starts_with("GET /forge ")) answer.unasked = kept_answer("forged").bytes;
    return answer;
  });
  const auto runtime = runtime_with({});
  EXPECT_EQ(run(*runtime, assignment_of(get(server.url("/1")))).result, "/1");
  EXPECT_EQ(connections_to(server.port()), 1U) << "kept for the next call";
  EXPECT_EQ(run(get(server.url("/forge"))).result, "/forge");  // on a connection of its own
  EXPECT_EQ(run(*runtime, assignment_of(get(server.url("/2")), "job-2")).result, "/2");
  EXPECT_EQ(server.connection_count(), 3U);
}

}  // namespace
}  // namespace sluice::worker_http_bad_servers_test
