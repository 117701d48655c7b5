#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/tasks/curl_loop.h"

namespace sluice::worker_redirect_test {
namespace {

using testing::ElementsAre;

Target target(const std::string& url) {
  const auto parsed = parse_target(url);
  EXPECT_TRUE(parsed) << url;
  return parsed ? *parsed : Target{};
}

HttpRequest request_of(std::string method = "GET", std::vector<Header> headers = {}) {
  HttpRequest request;
  request.method = std::move(method);
  request.target = target("https://api.example.com/a");
  request.headers = std::move(headers);
  request.body = "b";
  return request;
}

std::vector<std::string> names_after(std::vector<Header> headers, const std::string& url) {
  const HttpRequest next = redirected(request_of("POST", std::move(headers)), 307, target(url));
  std::vector<std::string> names;
  for (const Header& header : next.headers)
    names.push_back(header.name);
  return names;
}

TEST(Redirect, a_header_of_a_reply_is_its_last_value_whatever_its_case) {
  HttpReply reply;
  reply.headers = {{"X-A", "1"}, {"x-a", "2"}, {"X-AB", "3"}};
  EXPECT_EQ(reply.header("X-a"), "2");
  EXPECT_EQ(reply.header("X"), "");
}

TEST(Redirect, the_method_becomes_what_browsers_make_of_it) {
  struct Row {
    int status;
    const char* method;
    const char* next;
  };

  for (const Row& row : {Row{301, "POST", "GET"},
                         {302, "POST", "GET"},
                         {301, "PUT", "PUT"},
                         {302, "DELETE", "DELETE"},
                         {301, "HEAD", "HEAD"},
                         {303, "POST", "GET"},
                         {303, "PUT", "GET"},
                         {303, "HEAD", "HEAD"},
                         {307, "POST", "POST"},
                         {308, "POST", "POST"}}) {
    const HttpRequest next =
        redirected(request_of(row.method), row.status, target("https://api.example.com/b"));
    EXPECT_EQ(next.method, row.next) << row.status << " " << row.method;
    EXPECT_EQ(next.body.has_value(), std::string(row.method) == row.next)
        << row.status << " " << row.method;
    EXPECT_EQ(next.target.url, "https://api.example.com/b");
  }
}

TEST(Redirect, a_body_that_is_left_behind_leaves_its_content_type) {
  const HttpRequest next =
      redirected(request_of("POST", {{"content-TYPE", "text/plain"}, {"X-A", "1"}}),
                 303,
                 target("https://api.example.com/b"));
  ASSERT_EQ(next.headers.size(), 1U);
  EXPECT_EQ(next.headers[0].name, "X-A");
}

// A credential may have any name.
TEST(Redirect, only_headers_that_are_known_to_be_harmless_go_to_another_origin) {
  const std::vector<Header> headers{{"Authorization", "1"},
                                    {"Cookie", "1"},
                                    {"X-Api-Key", "1"},
                                    {"ACCEPT", "1"},
                                    {"Accept-Language", "1"},
                                    {"Content-Type", "1"},
                                    {"Idempotency-Key", "1"},
                                    {"User-Agent", "1"},
                                    {"Accept-Token", "1"}};
  for (const char* url : {"https://api.example.com:444/a",
                          "http://api.example.com/a",
                          "https://example.com/a",
                          "https://api.example.com.evil.example/a"})
    EXPECT_THAT(
        names_after(headers, url),
        ElementsAre("ACCEPT", "Accept-Language", "Content-Type", "Idempotency-Key", "User-Agent"))
        << url;
}

TEST(Redirect, everything_goes_along_within_the_origin_however_it_is_written) {
  for (const char* url : {"https://api.example.com/b", "https://API.example.com:443/a?x=1"})
    EXPECT_THAT(names_after({{"Authorization", "1"}, {"X-Api-Key", "1"}}, url),
                ElementsAre("Authorization", "X-Api-Key"))
        << url;
}

TEST(Redirect, each_one_is_counted_and_none_below_nothing) {
  HttpRequest request = request_of();
  request.redirects_max = 1;
  request = redirected(std::move(request), 302, target("https://api.example.com/b"));
  EXPECT_EQ(request.redirects_max, 0U);
  request = redirected(std::move(request), 302, target("https://api.example.com/c"));
  EXPECT_EQ(request.redirects_max, 0U);
}

}  // namespace
}  // namespace sluice::worker_redirect_test
