// What producer_cli_test.cpp leaves open of it.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/cli/job_arguments.h"

namespace sluice::cli::producer_job_arguments_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t kNowMs = 1'000'000;
constexpr std::int64_t kYearMs = kTenYearsMs / 10;

JobArguments echo() {
  JobArguments arguments;
  arguments.task = "echo";
  return arguments;
}

// Where and why it was refused; empty when it was taken.
template <typename T>
std::string refusal(const Result<T>& result) {
  return result ? "" : result.error().where + ": " + result.error().detail;
}

// A file with these bytes, removed with the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& bytes) {
    ::close(::mkstemp(path_.data()));
    std::ofstream(path_, std::ios::binary) << bytes;
  }

  ~TemporaryFile() { std::remove(path_.c_str()); }

  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_ = testing::TempDir() + "job-arguments-XXXXXX";
};

TEST(JobFromArguments, what_was_not_typed_has_the_default) {
  const auto job = job_from_arguments(echo(), kNowMs);
  ASSERT_TRUE(job);
  JobSpec expected;
  expected.task = "echo";
  expected.content_type = "application/json";
  EXPECT_TRUE(job->id.empty());
  EXPECT_EQ(content_hash_of(*job), content_hash_of(expected));
}

TEST(JobFromArguments, every_argument_lands_in_its_member) {
  JobArguments arguments = echo();
  arguments.id = "a:1";
  arguments.queue = "q";
  arguments.priority = "critical";
  arguments.run_at = "5";
  arguments.timeout = "0";
  arguments.keep_result = "2d";
  arguments.content_type = "x/y";
  arguments.retry = {"patient", "base=2ms", "cap=1h", "factor=1.5", "jitter=0"};
  arguments.tags = {"b", "a"};
  arguments.headers = {"k=v=w", "empty="};
  arguments.max_retries = 0;
  arguments.keep_payload = true;
  const auto job = job_from_arguments(arguments, kNowMs);
  ASSERT_TRUE(job) << refusal(job);
  EXPECT_EQ(job->id, JobId("a:1"));
  EXPECT_EQ(job->queue, "q");
  EXPECT_EQ(job->priority, Priority::critical);
  EXPECT_EQ(job->run_at_ms, 5);
  EXPECT_EQ(job->timeout_ms, 0);
  EXPECT_EQ(job->keep_result_ms, 172'800'000);
  EXPECT_EQ(job->content_type, "x/y");
  EXPECT_EQ(job->retry,
            (RetryPolicy{.max_retries = 0,
                         .base_ms = 2,
                         .factor = 1.5,
                         .cap_ms = 3'600'000,
                         .jitter = 0}));
  EXPECT_THAT(job->tags, ElementsAre("b", "a"));
  EXPECT_THAT(job->headers, ElementsAre(Header{"k", "v=w"}, Header{"empty", ""}));
  EXPECT_TRUE(job->keep_payload);
}

TEST(JobFromArguments, what_is_wrong_is_named_by_its_flag) {
  using Spoil = void (*)(JobArguments&);
  const std::vector<std::pair<Spoil, const char*>> all = {
      {[](JobArguments& a) { a.task = "a:b"; }, "TASK: 'a:b' is no task name"},
      {[](JobArguments& a) { a.task = std::string(65, 'x'); }, "TASK: "},
      {[](JobArguments& a) { a.id = "a/b"; }, "--id: 'a/b' is no job id"},
      {[](JobArguments& a) { a.priority = "High"; }, "--priority: 'High' is none of low, normal"},
      {[](JobArguments& a) { a.timeout = "-1s"; }, "--timeout: '-1s' is no duration"},
      {[](JobArguments& a) { a.keep_result = "1y"; }, "--keep-result: '1y' is no duration"},
      {[](JobArguments& a) { a.run_at = "noon"; }, "--run-at: 'noon' is no time"},
      {[](JobArguments& a) { a.delay = a.run_at = "5"; }, "--run-at: not together with --delay"},
      {[](JobArguments& a) { a.expires = "2026-13-01T00:00:00Z"; }, "--expires: "},
      {[](JobArguments& a) { a.retry = {"eager"}; }, "--retry: 'eager' is none of none"},
      {[](JobArguments& a) { a.retry = {"base=soon"}; }, "retry.base: 'soon' is no duration"},
      {[](JobArguments& a) { a.retry = {"factor=x"}; }, "retry.factor: 'x' is no number"},
      {[](JobArguments& a) { a.retry = {"max_retries=1001"}; }, "retry.max_retries: "},
      {[](JobArguments& a) { a.retry = {"max_retries=2.5"}; }, "retry.max_retries: must be an int"},
      {[](JobArguments& a) { a.retry = {"speed=5"}; }, "retry.speed: is none of base, factor"},
      {[](JobArguments& a) { a.headers = {"name"}; }, "--header: write name=value"},
      {[](JobArguments& a) { a.payload = {"=1"}; }, "payload: '=1' is neither JSON nor key=value"},
      {[](JobArguments& a) { a.payload = {"@/no/such"}; }, "/no/such: cannot be read"}};
  for (const auto& [spoil, words] : all) {
    JobArguments arguments = echo();
    spoil(arguments);
    EXPECT_THAT(refusal(job_from_arguments(arguments, kNowMs)), testing::StartsWith(words));
  }
}

// The broker refuses a cap below the base.
TEST(JobFromArguments, a_cap_that_was_not_said_follows_the_base) {
  const auto retry = [](std::vector<std::string> words) {
    JobArguments arguments = echo();
    arguments.retry = std::move(words);
    return job_from_arguments(arguments, kNowMs)->retry;
  };
  constexpr std::int64_t kHourMs = 3'600'000;
  EXPECT_EQ(retry({"base=2h"}).base_ms, 2 * kHourMs);
  EXPECT_EQ(retry({"base=2h"}).cap_ms, 2 * kHourMs);
  EXPECT_EQ(retry({"base=5s"}).cap_ms, kBackoffCapDefaultMs);
  EXPECT_EQ(retry({"base=2h", "cap=3h"}).cap_ms, 3 * kHourMs);
  EXPECT_EQ(retry({"cap=1s", "base=2h"}).cap_ms, 1'000) << "was said, is for the broker to refuse";
  EXPECT_EQ(retry({"patient", "base=2h"}).cap_ms, 24 * kHourMs);
  EXPECT_EQ(retry({"cap=1s", "patient", "base=48h"}).cap_ms, 48 * kHourMs);
}

TEST(JobFromArguments, a_file_is_taken_as_its_bytes_up_to_1_mib) {
  const std::string bytes(std::string("\0\xff {", 4) + std::string(kPayloadBytesMax - 4, 'x'));
  const TemporaryFile full(bytes);
  const TemporaryFile over(bytes + "y");
  JobArguments arguments = echo();
  arguments.payload = {"@" + full.path()};
  const auto job = job_from_arguments(arguments, kNowMs);
  ASSERT_TRUE(job) << refusal(job);
  EXPECT_TRUE(job->payload == bytes);
  EXPECT_EQ(job->content_type, "application/octet-stream");
  arguments.content_type = "image/jpeg";
  EXPECT_EQ(job_from_arguments(arguments, kNowMs)->content_type, "image/jpeg");
  arguments.payload = {"@" + over.path()};
  const auto refused = job_from_arguments(arguments, kNowMs);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::too_large);
  EXPECT_EQ(refused.error().where, over.path());
}

TEST(JobFromArguments, a_plain_number_to_expire_is_a_span_below_a_year_and_a_time_from_there) {
  const auto expires = [](std::int64_t number) {
    JobArguments arguments = echo();
    arguments.expires = std::to_string(number);
    return job_from_arguments(arguments, kNowMs)->expires_at_ms;
  };
  EXPECT_EQ(expires(0), kNowMs);
  EXPECT_EQ(expires(kYearMs - 1), kNowMs + kYearMs - 1);
  EXPECT_EQ(expires(kYearMs), kYearMs);
}

TEST(JobFromArguments, a_time_without_a_z_is_local) {
  const char* before = std::getenv("TZ");  // NOLINT(concurrency-mt-unsafe)
  const std::string zone = before == nullptr ? "" : before;
  ::setenv("TZ", "UTC-2", 1);  // two hours ahead of it
  EXPECT_EQ(read_time("", "1970-01-01T03:00:00").value(), 3'600'000);
  EXPECT_EQ(read_time("", "1970-01-01T03:00:00Z").value(), 3 * 3'600'000);
  before == nullptr ? ::unsetenv("TZ") : ::setenv("TZ", zone.c_str(), 1);
  ::tzset();
  for (const char* wrong : {"1970-01-01", "1970-01-01T03:00:00+02:00", "1970-01-01T03:00:00Zz", ""})
    EXPECT_FALSE(read_time("", wrong)) << wrong;
}

TEST(JobFromArguments, a_time_that_is_on_no_calendar_is_refused) {
  for (const char* right : {"2028-02-29T00:00:00Z", "2026-12-31T23:59:59Z", "2026-07-01T00:00:00"})
    EXPECT_TRUE(read_time("", right)) << right;
  for (const char* day : {"2026-02-30", "2026-02-29", "2026-04-31", "2026-01-32", "2026-01-00"}) {
    EXPECT_FALSE(read_time("", day + std::string("T00:00:00Z"))) << day;
    EXPECT_FALSE(read_time("", day + std::string("T00:00:00"))) << day;
  }
  for (const char* time : {"24:00:00", "00:60:00", "12:00:60", "12:00:61", "23:59:60"})
    EXPECT_FALSE(read_time("", "2026-01-01T" + std::string(time) + "Z")) << time;
  EXPECT_THAT(refusal(read_time("--run-at", "2026-02-30T00:00:00Z")),
              HasSubstr("--run-at: '2026-02-30T00:00:00Z' is"));
}

TEST(JobFromLine, every_key_lands_in_its_member) {
  const auto job = job_from_json_line(
      R"({"id":"a","task":"t","queue":"q","priority":"low","delay_ms":1,"run_at_ms":2,)"
      R"("expires_at_ms":3,"timeout_ms":4,"keep_result_ms":5,"keep_payload":true,)"
      R"("retry":{"base_ms":6,"factor":7,"cap_ms":"8ms","jitter":0.5},"max_retries":9,)"
      R"("tags":["x","y"],"headers":{"k":"v"},"payload":[1,{"a":null}]})");
  ASSERT_TRUE(job) << refusal(job);
  EXPECT_EQ(job->id, JobId("a"));
  EXPECT_EQ(job->task, "t");
  EXPECT_EQ(job->queue, "q");
  EXPECT_EQ(job->priority, Priority::low);
  EXPECT_EQ(job->delay_ms, 1);
  EXPECT_EQ(job->run_at_ms, 2);
  EXPECT_EQ(job->expires_at_ms, 3);
  EXPECT_EQ(job->timeout_ms, 4);
  EXPECT_EQ(job->keep_result_ms, 5);
  EXPECT_TRUE(job->keep_payload);
  EXPECT_EQ(job->retry,
            (RetryPolicy{.max_retries = 9, .base_ms = 6, .factor = 7, .cap_ms = 8, .jitter = 0.5}));
  EXPECT_THAT(job->tags, ElementsAre("x", "y"));
  EXPECT_THAT(job->headers, ElementsAre(Header{"k", "v"}));
  EXPECT_EQ(job->payload, R"([1,{"a":null}])");
  EXPECT_EQ(job->content_type, "application/json");
}

TEST(JobFromLine, what_is_wrong_is_named_by_its_key) {
  const std::vector<std::pair<const char*, const char*>> all = {
      {R"({"payload":1})", "task: is missing"},
      {R"({"task":"t","id":7})", "id: must be a string"},
      {R"({"task":"t","id":"a b"})", "id: 'a b' is no job id"},
      {R"({"task":"t","queue":1})", "queue: must be a string"},
      {R"({"task":"t","priority":"x"})", "priority: 'x' is none of"},
      {R"({"task":"t","run_at_ms":1.5})", "run_at_ms: must be an integer from 0"},
      {R"({"task":"t","timeout_ms":"5"})", "timeout_ms: must be an integer from 0"},
      {R"({"task":"t","keep_result_ms":-1})", "keep_result_ms: must be an integer from 0"},
      {R"({"task":"t","delay_ms":2.5})", "delay_ms: must be an integer from 0"},
      {R"({"task":"t","expires_at_ms":1e3})", "expires_at_ms: must be an integer from 0"},
      {R"({"task":"t","delay_ms":18446744073709551615})", "delay_ms: must be an integer from 0"},
      {R"({"task":"t","max_retries":2.5})", "max_retries: must be an integer from 0 to 1000"},
      {R"({"task":"t","max_retries":1001})", "max_retries: must be an integer from 0 to 1000"},
      {R"({"task":"t","max_retries":-1})", "max_retries: must be an integer from 0 to 1000"},
      {R"({"task":"t","max_retries":"7"})", "max_retries: must be an integer from 0 to 1000"},
      {R"({"task":"t","retry":{"max_retries":2.5}})", "retry.max_retries: must be an integer"},
      {R"({"task":"t","retry":{"base_ms":2.5}})", "retry.base_ms: '2.5' is no duration"},
      {R"({"task":"t","retry":{"cap_ms":1e3}})", "retry.cap_ms: '1000.0' is no duration"},
      {R"({"task":"t","keep_payload":1})", "keep_payload: must be true or false"},
      {R"({"task":"t","retry":5})", "retry: must be a preset's name or an object"},
      {R"({"task":"t","retry":{"factor":[]}})", "retry.factor: '[]' is no number"},
      {R"({"task":"t","retry":{"base_ms":-1}})", "retry.base_ms: '-1' is no duration"},
      {R"({"task":"t","tags":[1]})", "tags: must be an array of strings"},
      {R"({"task":"t","headers":["x"]})", "headers: must be an object of strings"},
      {R"({"task":"t","headers":{"k":1}})", "headers: must be an object of strings"},
      {R"({"task":"t","unique":1})", "unique: is no key of a job"},
      {R"({"task":"t","delay_ms":1,"delay_ms":2})", "delay_ms: is given twice"},
      {R"({"task":"t"} {"task":"t"})", ": is not one JSON object"}};
  for (const auto& [line, words] : all)
    EXPECT_THAT(refusal(job_from_json_line(line)), testing::StartsWith(words)) << line;
}

TEST(JobFromLine, max_retries_wins_over_the_preset_wherever_it_stands) {
  for (const char* line : {R"({"task":"t","max_retries":7,"retry":"patient"})",
                           R"({"task":"t","retry":"patient","max_retries":7})"}) {
    RetryPolicy expected = *retry_preset("patient");
    expected.max_retries = 7;
    EXPECT_EQ(job_from_json_line(line)->retry, expected) << line;
  }
}

TEST(JobFromLine, a_cap_that_was_not_said_follows_the_base) {
  const auto cap_ms = [](const std::string& retry) {
    return job_from_json_line(R"({"task":"t","retry":)" + retry + "}")->retry.cap_ms;
  };
  EXPECT_EQ(cap_ms(R"({"base_ms":7200000})"), 7'200'000);
  EXPECT_EQ(cap_ms(R"({"base_ms":1})"), kBackoffCapDefaultMs);
  EXPECT_EQ(cap_ms(R"({"cap_ms":5,"base_ms":7200000})"), 5);
}

TEST(JobFromLine, a_payload_keeps_the_order_of_its_keys_and_the_digits_of_its_numbers) {
  std::string payload = R"({"b":1.10,"a":[1e2,123456789012345678901234567890])";
  for (int i = 0; i < 5'000; ++i)
    payload += ",\"k" + std::to_string(i) + "\":0";
  payload += '}';
  const auto job = job_from_json_line(R"({"task":"t","payload": )" + payload + "}");
  ASSERT_TRUE(job) << refusal(job);
  EXPECT_EQ(job->payload, payload);
}

TEST(JobFromLine, what_has_too_many_entries_is_named) {
  std::string many = "{";
  for (int i = 0; i < 5'000; ++i)
    many += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":\"\"";
  many += '}';
  const auto of = [&](const std::string& key) {
    return refusal(job_from_json_line("{\"task\":\"t\",\"" + key + "\":" + many + "}"));
  };
  EXPECT_EQ(of("headers"), "headers: has more than 16 entries");
  EXPECT_EQ(of("retry"), "retry: has more than 16 entries");
  EXPECT_EQ(of("queue"), "queue: must be a string");
  EXPECT_EQ(of("unique"), "unique: is no key of a job");
}

// As what it says it is.
TEST(JobFromLine, a_payload_of_text_is_bytes_only_of_a_type_other_than_json) {
  const auto payload = [](const std::string& type) {
    const auto job =
        job_from_json_line(R"({"task":"t","payload":"p","content_type":")" + type + "\"}");
    EXPECT_EQ(job->content_type, type);
    return job->payload;
  };
  EXPECT_EQ(payload("application/json"), "\"p\"");
  EXPECT_EQ(payload("application/json; charset=utf-8"), "\"p\"");
  EXPECT_EQ(payload("application/json;charset=utf-8"), "\"p\"");
  EXPECT_EQ(payload("application/json-seq"), "p");
  EXPECT_EQ(payload("text/plain"), "p");
}

TEST(JobFromLine, a_field_is_named_without_its_place_in_the_message) {
  const auto field = [](const char* where) {
    return field_of_job({ErrorCode::bad_field, where, ""});
  };
  EXPECT_EQ(field("jobs[3].priority"), "priority");
  EXPECT_EQ(field("jobs[12].retry.base_ms"), "retry.base_ms");
  EXPECT_EQ(field("jobs[3]"), "jobs[3]");
  EXPECT_EQ(field("retry.base"), "retry.base");
  EXPECT_EQ(field(""), "");
}

}  // namespace
}  // namespace sluice::cli::producer_job_arguments_test
