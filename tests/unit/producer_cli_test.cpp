// The command in this process, against a scripted broker.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/refusal.h"
#include "common/utf8.h"
#include "producer/cli/cli.h"
#include "producer/cli/job_arguments.h"
#include "producer/cli/show.h"
#include "producer/cli/text.h"
#include "tests/support/cli.h"
#include "tests/support/scripted_broker.h"

namespace sluice::cli::producer_cli_test {
namespace {

using test::accept_all;
using test::Ended;
using test::ended_view;
using test::ScriptedBroker;
using test::sluice;
using testing::HasSubstr;
using Bodies = std::vector<ReplyBody>;

std::string nobody() {
  ScriptedBroker gone([](const RequestBody&) { return Bodies{}; });
  return gone.address();
}

TEST(Cli, no_broker_is_69_and_one_sentence) {
  const std::string address = nobody();
  const Ended ping = sluice({"ping", "--broker", address, "--timeout", "50ms"});
  EXPECT_EQ(ping.code, kExitUnavailable);
  EXPECT_THAT(ping.err, HasSubstr(address));
  EXPECT_THAT(ping.err, HasSubstr("`sluice-broker`"));
  EXPECT_EQ(std::count(ping.err.begin(), ping.err.end(), '\n'), 1);
}

TEST(Cli, wrong_usage_is_2) {
  EXPECT_EQ(sluice({}).code, kExitUsage);
  EXPECT_EQ(sluice({"submit"}).code, kExitUsage);
  EXPECT_EQ(sluice({"get", "no good"}).code, kExitUsage);
  EXPECT_EQ(sluice({"list", "--state", "sleeping"}).code, kExitUsage);
  EXPECT_EQ(sluice({"ping", "--timeout", "soon"}).code, kExitUsage);
  EXPECT_EQ(sluice({"ping", "--timeout", "0"}).code, kExitUsage);
  EXPECT_EQ(sluice({"events", "--count", "0"}).code, kExitUsage);
  EXPECT_EQ(sluice({"ping", "--broker", "nonsense"}).code, kExitUsage);
  EXPECT_THAT(sluice({"ping", "--broker", "nonsense"}).err,
              HasSubstr("--broker: 'nonsense' is no address"));
  EXPECT_THAT(sluice({"submit", "echo", "@"}).err, HasSubstr("@: a file's name is missing"));
  EXPECT_EQ(sluice({"submit", "echo", "--priority", "urgent"}).code, kExitUsage);
}

TEST(Cli, a_topic_that_no_event_has_is_refused_with_those_there_are) {
  for (const char* topic : {"job.nothing", "jobs", "node.joined.x", "mail", "job.failedmail"}) {
    const Ended ended = sluice({"events", topic});
    EXPECT_EQ(ended.code, kExitUsage) << topic;
    EXPECT_THAT(ended.err, HasSubstr("there are job.queued.")) << topic;
  }
  for (const char* topic : {"job", "job.", "job.failed", "job.fail", "job.failed.mail", "node"})
    EXPECT_EQ(sluice({"events", topic, "--timeout", "1ms", "--events", nobody()}).code,
              kExitUnavailable)
        << topic;
}

TEST(Cli, what_was_done_before_a_failure_is_told) {
  bool is_first = true;
  const ScriptedBroker broker([&](const RequestBody&) -> Bodies {
    if (!is_first) return {ErrorReply{Error{ErrorCode::internal, "", "no more"}, false, {}}};
    is_first = false;
    TargetsDone done{"cancelled", {{JobId("a"), "cancelled", JobState::cancelled}}, "more"};
    return {std::move(done)};
  });
  const Ended ended =
      sluice({"cancel", "--state", "queued", "--broker", broker.address(), "--json"});
  EXPECT_NE(ended.code, kExitOk);
  EXPECT_EQ(Json::parse(ended.out)["results"][0]["id"], "a") << ended.out << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("no more"));
}

TEST(Cli, help_and_version_are_0) {
  EXPECT_EQ(sluice({"--version"}).code, kExitOk);
  const Ended help = sluice({"submit", "--help"});
  EXPECT_EQ(help.code, kExitOk);
  EXPECT_THAT(help.out, HasSubstr("Examples:"));
}

TEST(Cli, an_unknown_command_is_named_with_the_nearest_or_all) {
  const Ended typo = sluice({"lst", "--tag", "AAPL"});
  EXPECT_EQ(typo.code, kExitUsage);
  EXPECT_THAT(typo.err, HasSubstr("'lst' is no command; did you mean list?"));
  const Ended odd = sluice({"frobnicate"});
  EXPECT_EQ(odd.code, kExitUsage);
  EXPECT_THAT(odd.err, HasSubstr("'frobnicate' is no command; the commands are submit, get"));
  EXPECT_THAT(odd.err, HasSubstr("Try 'sluice --help'"));
}

TEST(Cli, an_unknown_flag_is_named_with_the_nearest) {
  const Ended typo = sluice({"submit", "echo", "--prioritty", "high"});
  EXPECT_EQ(typo.code, kExitUsage);
  EXPECT_THAT(typo.err,
              HasSubstr("--prioritty is no flag of this command; did you mean --priority?"));
  EXPECT_THAT(typo.err, HasSubstr("Try 'sluice submit --help'"));
  EXPECT_THAT(sluice({"ping", "now"}).err, HasSubstr("'now' is one argument too many"));
  const Ended json = sluice({"get", "--frob", "a", "--json"});
  EXPECT_THAT(Json::parse(json.err)["error"]["message"].get<std::string>(), HasSubstr("--frob"));
}

TEST(Cli, workers_shows_the_isolates_of_those_that_have_any) {
  ScriptedBroker broker([](const RequestBody&) {
    NodeInfo plain, idle, busy;
    plain.node = "files-1@ab";
    idle.node = "photos-1@cd";
    idle.isolates = {{.task = "shrink"}};
    busy.node = "photos-2@ef";
    busy.isolates = {{"resize", 4, 3, 2, 1000, 1, 7, 65'000}};
    return Bodies{WorkersInfo{{plain, idle, busy}}};
  });
  const std::string table = sluice({"workers", "--broker", broker.address()}).out;
  EXPECT_THAT(
      table,
      testing::ContainsRegex("processes of +task +total +busy +available +utilised +waiting"));
  EXPECT_THAT(table, testing::ContainsRegex("photos-1@cd +shrink +0 +0 +0 +- +0 +0 +0 +0\n"));
  EXPECT_THAT(table, testing::ContainsRegex("photos-2@ef +resize +4 +3 +1 +75 % +2 +1000 +1 +7\n"));
  const Json json = Json::parse(sluice({"workers", "--json", "--broker", broker.address()}).out);
  EXPECT_EQ(json["workers"][0]["isolates"], Json::array());
  EXPECT_EQ(json["workers"][2]["isolates"][0]["available"], 1);
  EXPECT_EQ(json["workers"][2]["isolates"][0]["utilisation"], 0.75);
  EXPECT_EQ(json["workers"][2]["isolates"][0]["crashes"], 1);
}

TEST(Cli, the_help_of_every_command_has_examples_of_it_and_its_exit_status) {
  const std::string all = sluice({"--help"}).out;
  for (const char* command : {"submit",
                              "get",
                              "wait",
                              "list",
                              "cancel",
                              "retry",
                              "delete",
                              "queues",
                              "pause",
                              "resume",
                              "purge",
                              "workers",
                              "drain",
                              "stats",
                              "ping",
                              "events"}) {
    EXPECT_THAT(all, HasSubstr(std::string("  ") + command + " "));
    const std::string help = sluice({command, "--help"}).out;
    EXPECT_THAT(help, HasSubstr("Example")) << command;
    EXPECT_THAT(help, HasSubstr(std::string("  sluice ") + command)) << command;
    EXPECT_THAT(help, HasSubstr("Exit status: 0")) << command;
  }
}

// As the broker does: a page looks at `limit` jobs of the state and brings those with the tag.
// There are 3 pending and 300 failed jobs; every hundredth of a state has the tag.
Bodies list_page(const RequestBody& body) {
  const Filter& filter = std::get<List>(body).filter;
  const int count = filter.state == JobState::pending  ? 3
                    : filter.state == JobState::failed ? 300
                                                       : 0;
  int next = filter.cursor.empty() ? 0 : std::stoi(filter.cursor);
  Listed listed;
  for (std::uint32_t i = 0; i < filter.limit && next < count; ++i, ++next)
    if (filter.tag.empty() || next % 100 == 0)
      listed.jobs.push_back(
          ended_view(fmt::format("{}{}", to_string(*filter.state), next), *filter.state));
  if (next < count) listed.cursor = std::to_string(next);
  return {std::move(listed)};
}

TEST(Cli, list_without_a_state_is_of_all_states) {
  ScriptedBroker broker(list_page);
  const Ended tagged = sluice({"list", "--tag", "AAPL", "--json", "--broker", broker.address()});
  ASSERT_EQ(tagged.code, kExitOk) << tagged.err;
  const Json page = Json::parse(tagged.out);
  std::vector<std::string> ids;
  for (const Json& job : page["jobs"])
    ids.push_back(job["id"]);
  EXPECT_THAT(ids, testing::ElementsAre("pending0", "failed0", "failed100", "failed200"));
  EXPECT_EQ(page["cursor"], "");
}

TEST(Cli, list_goes_on_at_its_cursor_and_brings_every_job_once) {
  ScriptedBroker broker(list_page);
  std::vector<std::string> ids;
  std::string cursor;
  do {
    std::vector<std::string> arguments =
        {"list", "--limit", "2", "--tag", "x", "--json", "--broker", broker.address()};
    if (!cursor.empty()) arguments.insert(arguments.end(), {"--cursor", cursor});
    const Json page = Json::parse(sluice(arguments).out);
    EXPECT_LE(page["jobs"].size(), 2U);
    for (const Json& job : page["jobs"])
      ids.push_back(job["id"]);
    cursor = page["cursor"];
  } while (!cursor.empty());
  EXPECT_THAT(ids, testing::ElementsAre("pending0", "failed0", "failed100", "failed200"));

  const Ended lines = sluice({"list", "--all", "--json", "--broker", broker.address()});
  EXPECT_EQ(std::count(lines.out.begin(), lines.out.end(), '\n'), 303);
  EXPECT_EQ(sluice({"list", "--cursor", "7", "--broker", broker.address()}).code, kExitUsage);
  EXPECT_EQ(sluice({"list", "-s", "running", "--broker", broker.address()}).out, "no such job\n");
}

TEST(Cli, submit_sends_what_was_typed_and_prints_the_id) {
  JobSpec seen;
  ScriptedBroker broker([&](const RequestBody& body) {
    const auto& submit = std::get<Submit>(body);
    seen = std::get<JobSpec>(submit.jobs.at(0));
    return Bodies{accept_all(submit)};
  });
  const Ended submit = sluice({"submit",
                               "echo",
                               "text=hello",
                               "count=3",
                               "--id",
                               "j1",
                               "-q",
                               "mail",
                               "-p",
                               "high",
                               "--delay",
                               "5m",
                               "--attempt-timeout",
                               "3s",
                               "--retry",
                               "base=300ms",
                               "--max-retries",
                               "7",
                               "--tag",
                               "AAPL",
                               "--header",
                               "traceparent=00",
                               "--broker",
                               broker.address()});
  EXPECT_EQ(submit.code, kExitOk) << submit.err;
  EXPECT_EQ(submit.out, "j1\n");
  EXPECT_EQ(seen.payload, R"({"text":"hello","count":3})");
  EXPECT_EQ(seen.content_type, "application/json");
  EXPECT_EQ(seen.queue, "mail");
  EXPECT_EQ(seen.priority, Priority::high);
  EXPECT_EQ(seen.delay_ms, 300'000);
  EXPECT_EQ(seen.timeout_ms, 3'000);
  EXPECT_EQ(seen.retry.base_ms, 300);
  EXPECT_EQ(seen.retry.max_retries, 7U);
  EXPECT_THAT(seen.tags, testing::ElementsAre("AAPL"));
}

TEST(Cli, the_exit_status_says_whether_to_send_it_again) {
  ErrorReply refusal;
  ScriptedBroker broker([&](const RequestBody&) { return Bodies{refusal}; });
  const auto code_of = [&](ErrorCode code) {
    refusal = {{code, "", "no"}, is_retryable(code), 5000};  // not within the time-out
    return sluice({"purge", "mail", "--timeout", "5s", "--broker", broker.address()}).code;
  };
  for (const ErrorCode passing : {ErrorCode::retry_later,
                                  ErrorCode::store_unavailable,
                                  ErrorCode::store_full,
                                  ErrorCode::queue_full,
                                  ErrorCode::draining})
    EXPECT_EQ(code_of(passing), kExitTryAgain) << to_string(passing);
  EXPECT_EQ(code_of(ErrorCode::not_found), kExitNotFound);
  EXPECT_EQ(code_of(ErrorCode::bad_field), kExitFailed);
}

TEST(Cli, a_job_refused_for_now_is_75_and_one_refused_for_good_1) {
  ErrorCode code = ErrorCode::queue_full;
  ScriptedBroker broker([&](const RequestBody& body) {
    Submitted submitted = accept_all(std::get<Submit>(body));
    submitted.results[0].status = SubmitStatus::rejected;
    submitted.results[0].error = Error{code, "jobs[0]", "no"};
    return Bodies{std::move(submitted)};
  });
  EXPECT_EQ(sluice({"submit", "echo", "--broker", broker.address()}).code, kExitTryAgain);
  code = ErrorCode::bad_field;
  EXPECT_EQ(sluice({"submit", "echo", "--broker", broker.address()}).code, kExitFailed);
}

TEST(Cli, a_broker_that_does_not_answer_is_124) {
  ScriptedBroker broker([](const RequestBody&) { return Bodies{}; });
  const Ended ping = sluice({"ping", "--timeout", "300ms", "--broker", broker.address()});
  EXPECT_EQ(ping.code, kExitTimeout);
  EXPECT_THAT(ping.err, HasSubstr("did not answer"));
}

TEST(Cli, get_shows_the_result_and_not_found_is_4) {
  ScriptedBroker broker([](const RequestBody& body) -> Bodies {
    Jobs jobs;
    for (const JobId& id : std::get<Get>(body).ids) {
      jobs.jobs.push_back(ended_view(id.view(), JobState::completed, R"({"n":1})"));
      if (id == JobId("gone")) {
        jobs.jobs.back() = JobView{};
        jobs.jobs.back().id = id;
        jobs.jobs.back().is_not_found = true;
      }
    }
    return {std::move(jobs)};
  });
  const Ended known = sluice({"get", "a", "--json", "--broker", broker.address()});
  EXPECT_EQ(known.code, kExitOk);
  EXPECT_EQ(Json::parse(known.out)["result"]["n"], 1);
  EXPECT_EQ(sluice({"get", "a", "gone", "--broker", broker.address()}).code, kExitNotFound);
}

TEST(Cli, wait_is_1_for_a_failed_job_and_124_when_time_is_over) {
  bool is_over = false;
  ScriptedBroker broker([&](const RequestBody& body) -> Bodies {
    if (is_over) return {Waited{{}, {}, {}, std::get<Wait>(body).ids, {}}};
    return {Finished{{ended_view("a", JobState::failed)}, {}}, Waited{}};
  });
  EXPECT_EQ(sluice({"wait", "a", "--broker", broker.address()}).code, kExitFailed);
  is_over = true;
  EXPECT_EQ(sluice({"wait", "a", "--for", "0ms", "--broker", broker.address()}).code, kExitTimeout);
}

TEST(Cli, jsonl_reports_bad_lines_by_number_and_goes_on) {
  ScriptedBroker broker(
      [](const RequestBody& body) { return Bodies{accept_all(std::get<Submit>(body))}; });
  const std::string path = testing::TempDir() + "producer_cli_test.jsonl";
  std::ofstream(path) << R"({"task":"echo","payload":{"n":1}})"
                      << "\n"
                      << "not json\n\n"
                      << R"({"task":"echo","colour":1})"
                      << "\n"
                      << R"({"task":"echo"})"
                      << "\n";
  const Ended bulk = sluice({"submit", "--jsonl", path, "--json", "--broker", broker.address()});
  std::remove(path.c_str());
  EXPECT_EQ(bulk.code, kExitFailed);
  EXPECT_EQ(Json::parse(bulk.out)["accepted"], 2);
  EXPECT_EQ(Json::parse(bulk.out)["bad_lines"], 2);
  EXPECT_THAT(bulk.err, HasSubstr(R"("line":2)"));
  EXPECT_THAT(bulk.err, HasSubstr("colour"));
}

TEST(Cli, a_progress_line_stays_within_its_line) {
  EXPECT_EQ(within_line("abc", 0), "abc");
  EXPECT_EQ(within_line("abc", 4), "abc");
  EXPECT_EQ(within_line("abcd", 4), "abc");
  EXPECT_EQ(within_line("ab\u00e4", 4), "ab") << "no half of a character";
}

TEST(Cli, a_directory_is_no_input) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"submit", "echo", "@/tmp"}, {"submit", "--jsonl", "/tmp"}}) {
    const Ended ended = sluice(arguments);
    EXPECT_EQ(ended.code, kExitUsage) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("/tmp: cannot be read; is it a directory?"));
  }
}

// Its answer was lost with the connection, so the broker that comes back knows the jobs already.
TEST(Cli, what_says_nothing_together_is_refused) {
  const Ended ended = sluice({"submit", "--jsonl", "jobs.jsonl", "--wait"});
  EXPECT_EQ(ended.code, kExitUsage);
  EXPECT_THAT(ended.err, HasSubstr("--wait: waits for one job"));
}

TEST(Cli, jsonl_says_why_nothing_goes_on_where_nobody_sees_the_progress) {
  int asked = 0;
  ScriptedBroker broker([&](const RequestBody& body) {
    if (++asked > 2) return Bodies{accept_all(std::get<Submit>(body))};
    return Bodies{ErrorReply{{ErrorCode::retry_later, "", "too much is held"}, true, 1}};
  });
  const std::string path = testing::TempDir() + "producer_cli_full.jsonl";
  std::ofstream(path) << "{\"task\":\"echo\"}\n";
  const Ended bulk = sluice({"submit", "--jsonl", path, "--broker", broker.address()});
  std::remove(path.c_str());
  EXPECT_EQ(bulk.code, kExitOk) << bulk.err;
  EXPECT_EQ(bulk.err,
            "sluice: the broker takes nothing just now, and is asked again for a while; it says: "
            "too much is held\n");
}

TEST(Cli, jsonl_counts_what_it_had_to_send_again_as_accepted) {
  std::promise<void> first;
  auto silent = std::make_unique<ScriptedBroker>([&](const RequestBody&) {
    first.set_value();
    return Bodies{};
  });
  const std::string address = silent->address();
  const std::string path = testing::TempDir() + "producer_cli_again.jsonl";
  std::ofstream(path) << R"({"task":"echo"})"
                      << "\n"
                      << R"({"task":"echo","id":"mine"})"
                      << "\n";
  auto call = std::async(std::launch::async, [&] {
    return sluice({"submit", "--jsonl", path, "--json", "--timeout", "60s", "--broker", address});
  });
  first.get_future().get();
  silent.reset();
  const ScriptedBroker next(
      [](const RequestBody& body) {
        Submitted submitted = accept_all(std::get<Submit>(body));
        for (SubmitResult& result : submitted.results)
          result.status = SubmitStatus::duplicate;
        return Bodies{std::move(submitted)};
      },
      address);
  const Ended bulk = call.get();
  std::remove(path.c_str());
  EXPECT_EQ(bulk.code, kExitOk) << bulk.err;
  EXPECT_EQ(Json::parse(bulk.out)["accepted"], 1);   // the id was made here: it was ours
  EXPECT_EQ(Json::parse(bulk.out)["duplicate"], 1);  // it may have been there before
}

TEST(JobArguments, a_payload_is_json_or_pairs) {
  EXPECT_EQ(json_payload({R"([1, 2])"}).value(), "[1, 2]");
  EXPECT_EQ(json_payload({"a=1", "b=x", "c=\"1\"", "d={\"e\":null}"}).value(),
            R"({"a":1,"b":"x","c":"1","d":{"e":null}})");
  EXPECT_FALSE(json_payload({"a=1", "word"}));
  EXPECT_EQ(json_payload({"b=123456789012345678901234567890", "a=1.10"}).value(),
            R"({"b":123456789012345678901234567890,"a":1.10})")
      << "as they are written";
  EXPECT_EQ(json_payload({"a=1", "a=2"}).error().detail, "'a' is given twice");
  EXPECT_THAT(json_payload({"path=\xff"}).error().detail, testing::HasSubstr("is not UTF-8"));
  EXPECT_EQ(json_payload({}).value(), "");
}

TEST(JobArguments, a_line_takes_the_keys_of_the_protocol_and_no_other) {
  const auto job = job_from_json_line(
      R"({"task":"t","id":"a","retry":{"base_ms":300},"tags":["x"],"headers":{"k":"v"},"payload":"p"})");
  ASSERT_TRUE(job) << job.error().detail;
  EXPECT_EQ(job->payload, "\"p\"");
  EXPECT_EQ(job->retry.base_ms, 300);
  EXPECT_EQ(
      job_from_json_line(R"({"task":"t","content_type":"text/plain","payload":"p"})")->payload,
      "p");
  for (const char* bad : {"[]",
                          "{}",
                          R"({"task":1})",
                          R"({"task":"t","delay_ms":-1})",
                          R"({"task":"t","priority":"x"})",
                          R"({"task":"t","tags":"x"})"})
    EXPECT_FALSE(job_from_json_line(bad)) << bad;
}

TEST(JobArguments, a_duration_out_of_bounds_is_named_with_the_bound) {
  const auto refusal = [](const JobArguments& arguments) {
    const auto job = job_from_arguments(arguments, 0);
    return job ? "" : job.error().where + ": " + job.error().detail;
  };
  JobArguments delay;
  delay.task = "echo";
  delay.delay = "4000d";
  EXPECT_EQ(refusal(delay), "--delay: 4000d is too long; at most ten years (3650d) are allowed");
  delay.delay = "soon";
  EXPECT_THAT(refusal(delay), HasSubstr("--delay: 'soon' is no duration; write 300ms"));
  JobArguments expires;
  expires.task = "echo";
  expires.expires = "4000d";
  EXPECT_THAT(refusal(expires), HasSubstr("--expires: 4000d is too long"));
  expires.expires = "400d";
  EXPECT_EQ(job_from_arguments(expires, 0)->expires_at_ms, 400LL * 24 * 3600 * 1000);
  expires.expires = "2026-12-01T06:00:00Z";
  EXPECT_EQ(job_from_arguments(expires, 0)->expires_at_ms, 1'796'104'800'000);
}

TEST(JobArguments, times_are_utc_with_a_z) {
  EXPECT_EQ(read_time("", "1970-01-02T00:00:01Z").value(), 86'401'000);
  EXPECT_EQ(read_time("", "1234").value(), 1234);
  EXPECT_FALSE(read_time("--run-at", "tomorrow"));
}

TEST(Show, bytes_are_json_msgpack_text_or_base64) {
  EXPECT_EQ(bytes_to_json(R"({"a":1})", "application/json")["a"], 1);
  EXPECT_EQ(bytes_to_json("\x81\xa1\x61\x01", "application/msgpack")["a"], 1);
  EXPECT_EQ(bytes_to_json("hello", "text/plain"), "hello");
  EXPECT_EQ(bytes_to_json("\xff\xfe\x01\x02", "text/plain")["base64"], "//4BAg==");
}

TEST(Show, a_failed_job_shows_its_attempts) {
  JobView view = ended_view("j1", JobState::failed);
  view.job->error_code = "exit_1";
  view.job->attempts.push_back(
      {1, "n1@aa", 1000, 3500, AttemptEnd::failed, "exit_1", "boom", 0, 0});
  const std::string text = job_to_text(view, 10'000, false);
  EXPECT_THAT(text, HasSubstr("failed"));
  EXPECT_THAT(text, HasSubstr("n1@aa"));
  EXPECT_THAT(text, HasSubstr("2.5 s"));
  EXPECT_THAT(text, HasSubstr("exit_1: boom"));
}

TEST(Show, what_the_last_attempt_has_used_is_said_as_far_as_it_is_known) {
  JobView view = ended_view("j1", JobState::completed);
  std::vector<AttemptRecord>& attempts = view.job->attempts;
  attempts.push_back({1, "n@1", 0, 1'250, AttemptEnd::completed, "", "", 830, 34 << 20});
  EXPECT_THAT(job_to_text(view, 0, false),
              HasSubstr("usage      1.2 s, 830 ms CPU, 34 MiB at its peak\n"));
  EXPECT_THAT(job_to_text(view, 0, false), HasSubstr("  830 ms  34 MiB"));
  attempts.push_back({2, "n@1", 2'000, 2'040, AttemptEnd::completed, "", "", 0, 0});
  EXPECT_THAT(job_to_text(view, 0, false), HasSubstr("usage      40 ms\n"));
  const Json json = job_to_json(view)["attempts"];
  EXPECT_EQ(json[0]["cpu_ms"], 830);
  EXPECT_EQ(json[0]["rss_bytes_max"], 34 << 20);
  EXPECT_FALSE(json[1].contains("cpu_ms"));
}

TEST(Text, spans_and_relative_times) {
  EXPECT_EQ(span_text(350), "350 ms");
  EXPECT_EQ(span_text(12'345), "12.3 s");
  EXPECT_EQ(span_text(250'000), "4 min 10 s");
  EXPECT_EQ(span_text(3 * 3'600'000 + 300'000), "3 h 5 min");
  EXPECT_EQ(span_text(52 * 3'600'000LL), "2 d 4 h");
  EXPECT_EQ(relative_time(1000, 3000), "2.0 s ago");
  EXPECT_EQ(relative_time(3000, 1000), "in 2.0 s");
}

TEST(Text, tables_align_and_ignore_colours) {
  Table table({"name", ">n"});
  table.add({"\x1b[31mab\x1b[0m", "1"});
  table.add({"longer", "100"});
  EXPECT_EQ(table.str(false), "name      n\n\x1b[31mab\x1b[0m        1\nlonger  100\n");
}

TEST(Text, what_could_steer_a_terminal_is_made_visible) {
  EXPECT_EQ(printable("a\x1b[2Jb\n"), "a\\x1b[2Jb\n");
}

TEST(Text, a_progress_bar_fills) {
  EXPECT_EQ(progress_bar(5, 10), "[###############...............]  50 %");
  EXPECT_EQ(progress_bar(12, 10), "[##############################] 100 %");
}

}  // namespace
}  // namespace sluice::cli::producer_cli_test
