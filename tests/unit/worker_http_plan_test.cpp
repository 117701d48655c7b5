#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/tasks/http.h"

#include <nlohmann/json.hpp>

namespace sluice::worker_http_plan_test {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

RunJob http_job() {
  RunJob job;
  job.id = JobId("job-1");
  return job;
}

HttpTask at(const std::string& base_url) {
  HttpTask task;
  task.base_url = base_url;
  return task;
}

HttpPlan plan(const json& payload, const HttpTask& task = HttpTask()) {
  auto planned = plan_http_call(task, http_job(), payload);
  EXPECT_TRUE(planned) << payload << ": " << (planned ? "" : planned.error().detail);
  return planned ? std::move(*planned) : HttpPlan{};
}

// The field of the refusal, with its code when that is not bad_field.
std::string refused(const json& payload, const HttpTask& task = HttpTask()) {
  const auto planned = plan_http_call(task, http_job(), payload);
  if (planned) return "taken";
  const Error& error = planned.error();
  const bool is_usual = error.code == ErrorCode::bad_field;
  return error.where + (is_usual ? "" : " " + std::string(to_string(error.code)));
}

std::string header(const HttpPlan& plan, const std::string& name) {
  std::string all;
  for (const Header& header : plan.request.headers)
    if (header.name == name) all += (all.empty() ? "" : "|") + header.value;
  return all;
}

json call(json more) {
  more["url"] = "https://h.example/";
  return more;
}

TEST(HttpPlan, a_job_s_url_is_appended_to_the_task_s_or_stands_for_itself) {
  const std::string base = "https://api.example/v1";
  for (const auto& [url, target] : {std::pair{"", "https://api.example/v1"},
                                    {"orders", "https://api.example/v1/orders"},
                                    {"/orders?n=1", "https://api.example/v1/orders?n=1"},
                                    {"?n=1", "https://api.example/v1?n=1"},
                                    {"//h.example/x", "https://api.example/v1//h.example/x"},
                                    {"?to=ftp://h/", "https://api.example/v1?to=ftp://h/"},
                                    {"HTTPS://h.example/x", "https://h.example/x"}}) {
    EXPECT_EQ(plan({{"url", url}}, at(base)).request.target.url, target) << url;
    if (*url == '\0' || *url == '?') continue;  // they name no path to stand behind the slash
    EXPECT_EQ(plan({{"url", url}}, at(base + "/")).request.target.url, target) << url;
  }
  EXPECT_EQ(plan(json::object(), at(base)).request.target.url, base);
  for (const char* url : {"ftp://h.example/", "a b", "a\nb", "https://u:p@h.example/"})
    EXPECT_EQ(refused({{"url", url}}, at(base)), "url") << url;
  EXPECT_EQ(refused({{"url", "orders"}}), "url") << "without a base it is no URL";
  EXPECT_EQ(refused(json::object()), "url");
}

TEST(HttpPlan, the_method_is_get_or_post_with_a_body_unless_it_is_said) {
  EXPECT_EQ(plan(call({})).request.method, "GET");
  EXPECT_EQ(plan(call({{"body", nullptr}})).request.method, "POST");
  EXPECT_EQ(plan(call({{"body", "b"}, {"method", "DELETE"}})).request.method, "DELETE");
  EXPECT_EQ(refused(call({{"method", "get"}})), "method");
  EXPECT_EQ(refused(call({{"method", "TRACE"}})), "method");
  EXPECT_EQ(refused(call({{"method", 5}})), "method");
  EXPECT_EQ(refused(call({{"method", "GET"}, {"body", "b"}})), "body");
  EXPECT_EQ(refused(call({{"method", "HEAD"}, {"body", ""}})), "body");
}

TEST(HttpPlan, a_body_goes_as_it_is_or_as_json_and_has_a_type_unless_the_job_gives_one) {
  struct Row {
    json body;
    std::string sent;
    std::string type;
  };

  for (const Row& row :
       {Row{"two\n", "two\n", "text/plain; charset=utf-8"},
        {"", "", "text/plain; charset=utf-8"},
        {json::binary({0xff, 0}), std::string("\xff\0", 2), "application/octet-stream"},
        {{{"n", {1, 2}}}, R"({"n":[1,2]})", "application/json"},
        {nullptr, "null", "application/json"}}) {
    const HttpPlan planned = plan(call({{"body", row.body}}));
    EXPECT_EQ(planned.request.body, row.sent);
    EXPECT_EQ(header(planned, "Content-Type"), row.type);
  }
  const HttpPlan own = plan(call({{"body", 1}, {"headers", {{"content-type", "x/y"}}}}));
  EXPECT_EQ(header(own, "content-type"), "x/y");
  EXPECT_EQ(header(own, "Content-Type"), "");
  EXPECT_EQ(plan(call({})).request.body, std::nullopt);
}

TEST(HttpPlan, headers_are_bounded_and_those_that_make_the_call_are_not_the_job_s) {
  const auto with = [](const std::string& name, const json& value) {
    return call({{"headers", {{name, value}}}});
  };
  json many = json::object();
  for (int i = 0; i < 64; ++i)
    many["X-" + std::to_string(i)] = "";
  EXPECT_EQ(refused(call({{"headers", many}})), "taken");
  many["X-64"] = "";
  EXPECT_EQ(refused(call({{"headers", many}})), "headers");
  EXPECT_EQ(refused(call({{"headers", json::array()}})), "headers");
  EXPECT_EQ(refused(with("X-A", std::string(8192, 'v'))), "taken");
  EXPECT_EQ(refused(with("X-A", std::string(8193, 'v'))), "headers.X-A");
  EXPECT_EQ(refused(with("X-A", 5)), "headers.X-A");
  EXPECT_EQ(refused(with("X-A", "a\r\nX-B: 1")), "headers.X-A");
  EXPECT_EQ(refused(with("X-A", "a\tb")), "taken");
  for (const std::string& name : {std::string(),
                                  std::string("X A"),
                                  std::string("X:A"),
                                  std::string("X\n"),
                                  std::string(129, 'X')})
    EXPECT_EQ(refused(with(name, "v")), "headers") << name;
  for (const char* name : {"Host",
                           "content-length",
                           "Transfer-Encoding",
                           "CONNECTION",
                           "Expect",
                           "TE",
                           "Upgrade",
                           "Proxy-Authorization",
                           "Idempotency-Key"})
    EXPECT_EQ(refused(with(name, "v")), "headers." + std::string(name));
}

TEST(HttpPlan, the_job_s_headers_replace_the_task_s_and_the_id_of_the_job_is_always_there) {
  HttpTask task;
  task.headers = {{"X-A", "task's"}, {"X-B", "task's"}, {"idempotency-key", "task's"}};
  const HttpPlan planned = plan(call({{"headers", {{"x-a", "job's"}}}}), task);
  EXPECT_EQ(header(planned, "X-A"), "job's");
  EXPECT_EQ(header(planned, "X-B"), "task's");
  EXPECT_EQ(header(planned, "idempotency-key"), "job-1");
  EXPECT_EQ(planned.request.headers.size(), 3U);
  EXPECT_EQ(header(plan(call({})), "Idempotency-Key"), "job-1");
}

TEST(HttpPlan, the_task_s_headers_and_every_secret_go_to_the_origin_of_its_base_only) {
  ::setenv("SLUICE_SECRET_PLAN_TEST", "hunter-two", 1);
  HttpTask task = at("https://api.example/v1");
  task.headers = {{"X-Key", "Bearer secret:PLAN_TEST"}};
  task.job_secrets = {"PLAN_TEST"};
  const json own{{"X-Own", "secret:PLAN_TEST"}};
  const HttpPlan home = plan({{"url", "https://API.example:443/x"}, {"headers", own}}, task);
  EXPECT_EQ(header(home, "X-Key"), "Bearer hunter-two");
  EXPECT_EQ(header(home, "X-Own"), "hunter-two");
  EXPECT_EQ(home.used_secrets.size(), 2U);
  for (const char* url :
       {"http://api.example/x", "https://api.example:444/", "https://h.example/"}) {
    const HttpPlan away = plan({{"url", url}}, task);
    EXPECT_EQ(header(away, "X-Key"), "") << url;
    EXPECT_THAT(away.used_secrets, IsEmpty()) << url;
    EXPECT_EQ(refused({{"url", url}, {"headers", own}}, task), "headers.X-Own denied") << url;
  }
  EXPECT_EQ(refused({{"headers", {{"X-Own", "secret:OTHER"}}}}, task), "headers.X-Own denied");
  ::unsetenv("SLUICE_SECRET_PLAN_TEST");
  EXPECT_EQ(refused({{"headers", own}}, task), "PLAN_TEST not_found");
}

// A line end in it would begin a header of its own.
TEST(HttpPlan, a_secret_with_a_line_end_is_refused_and_not_shown) {
  ::setenv("SLUICE_SECRET_PLAN_TEST", "hunter\ntwo", 1);
  HttpTask task = at("https://api.example/v1");
  task.headers = {{"X-Key", "secret:PLAN_TEST"}};
  const auto planned = plan_http_call(task, http_job(), json::object());
  ::unsetenv("SLUICE_SECRET_PLAN_TEST");
  ASSERT_FALSE(planned);
  EXPECT_EQ(planned.error().where, "X-Key");
  EXPECT_THAT(planned.error().detail, Not(HasSubstr("hunter")));
}

TEST(HttpPlan, what_the_job_expects_replaces_what_its_task_does) {
  HttpTask task;
  task.wants_response = true;
  task.redirects_max = 2;
  const HttpPlan usual = plan(call({}), task);
  EXPECT_THAT(usual.expect, ElementsAre("2xx"));
  EXPECT_TRUE(usual.wants_response);
  EXPECT_EQ(usual.request.redirects_max, 2U);
  const HttpPlan own =
      plan(call({{"expect", {404, "3xx"}}, {"result", "body"}, {"redirects", 0}}), task);
  EXPECT_THAT(own.expect, ElementsAre("404", "3xx"));
  EXPECT_FALSE(own.wants_response);
  EXPECT_EQ(own.request.redirects_max, 0U);
  EXPECT_THAT(plan(call({{"expect", 204}})).expect, ElementsAre("204"));
  EXPECT_EQ(plan(call({{"redirects", 3}})).request.redirects_max, 3U);
}

TEST(HttpPlan, a_field_that_is_wrong_or_not_known_is_named) {
  for (const auto& [field, value] : {std::pair<std::string, json>{"expect", 20},
                                     {"expect", json::array()},
                                     {"expect", "abc"},
                                     {"expect", "-12"},
                                     {"expect", "6xx"},
                                     {"expect", "20x"},
                                     {"expect", 999},
                                     {"expect", 1.5},
                                     {"expect", {nullptr}},
                                     {"expect", {{"status", 404}}},
                                     {"result", "text"},
                                     {"result", 1},
                                     {"redirects", 4},
                                     {"redirects", -1},
                                     {"redirects", 1.0},
                                     {"redirects", UINT64_MAX},
                                     {"Method", "GET"},
                                     {"timeout", 5}})
    EXPECT_EQ(refused(call({{field, value}})), field) << value;
  EXPECT_EQ(refused({{"url", 5}}), "url");
  EXPECT_EQ(refused("https://h.example/"), "payload");
  EXPECT_EQ(refused(json::array({"https://h.example/"})), "payload");
}

}  // namespace
}  // namespace sluice::worker_http_plan_test
