#include <atomic>
#include <chrono>
#include <future>
#include <map>
#include <mutex>
#include <semaphore>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "producer/client.h"
#include "tests/support/scripted_broker.h"

namespace sluice::producer_client_test {
namespace {

using test::accept_all;
using test::ended_view;
using test::ScriptedBroker;
using Bodies = std::vector<ReplyBody>;

ClientOptions patient(const ScriptedBroker& broker) {
  return {.broker = broker.address(), .timeout_ms = 60'000};
}

JobSpec echo(std::string_view id = "") {
  JobSpec job;
  job.id = JobId(id);
  job.task = "echo";
  return job;
}

TEST(Client, makes_an_id_for_a_job_that_has_none) {
  ScriptedBroker broker(
      [](const RequestBody& body) { return Bodies{accept_all(std::get<Submit>(body))}; });
  Client client(patient(broker));
  const auto result = client.submit(echo());
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->status, SubmitStatus::accepted);
  ASSERT_EQ(result->id.size(), 36U);
  EXPECT_EQ(result->id[14], '7');
}

TEST(Client, names_the_address_and_the_command_when_no_broker_is_there) {
  std::string address;
  {
    ScriptedBroker gone([](const RequestBody&) { return Bodies{}; });
    address = gone.address();
  }
  Client client({.broker = address, .timeout_ms = 50});
  const auto pong = client.ping();
  ASSERT_FALSE(pong);
  EXPECT_EQ(pong.error().failure, ClientFailure::unreachable);
  EXPECT_THAT(pong.error().message(), testing::HasSubstr(address));
  EXPECT_THAT(pong.error().message(), testing::HasSubstr("sluice-broker"));
}

TEST(Client, says_so_when_the_broker_is_there_and_silent) {
  ScriptedBroker broker([](const RequestBody&) { return Bodies{}; });
  Client client({.broker = broker.address(), .timeout_ms = 300});
  const auto pong = client.ping();
  ASSERT_FALSE(pong);
  EXPECT_EQ(pong.error().failure, ClientFailure::silent);
}

TEST(Client, refuses_an_address_that_is_none) {
  EXPECT_THAT(
      [] { Client({.broker = "nonsense"}); },
      testing::ThrowsMessage<std::runtime_error>(testing::HasSubstr("'nonsense' is no address")));
}

TEST(Client, hands_on_a_refusal_with_its_field) {
  ScriptedBroker broker([](const RequestBody&) {
    return Bodies{ErrorReply{{ErrorCode::not_found, "node", "no such node"}, false, {}}};
  });
  Client client(patient(broker));
  const auto done = client.drain("n9");
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().failure, ClientFailure::refused);
  EXPECT_EQ(done.error().error.code, ErrorCode::not_found);
  EXPECT_EQ(done.error().message(), "node: no such node");
}

TEST(Client, asks_again_under_the_same_id_what_the_broker_could_not_take_yet) {
  std::vector<JobId> seen;
  ScriptedBroker broker([&](const RequestBody& body) -> Bodies {
    const auto& submit = std::get<Submit>(body);
    seen.push_back(std::get<JobSpec>(submit.jobs.at(0)).id);
    if (seen.size() == 1) return {ErrorReply{{ErrorCode::retry_later, "", "full"}, true, 1}};
    return {accept_all(submit)};
  });
  Client client(patient(broker));
  ASSERT_TRUE(client.submit(echo()));
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0], seen[1]);
}

TEST(Client, says_what_it_was_refused_for_when_the_repetition_has_no_answer) {
  bool has_refused = false;
  ScriptedBroker broker([&](const RequestBody&) {
    if (std::exchange(has_refused, true)) return Bodies{};
    return Bodies{ErrorReply{{ErrorCode::store_unavailable, "", "away"}, true, 1}};
  });
  Client client({.broker = broker.address(), .timeout_ms = 1000});
  const auto done = client.purge("mail");
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().failure, ClientFailure::refused);
  EXPECT_EQ(done.error().error.code, ErrorCode::store_unavailable);
}

TEST(Client, sends_an_unanswered_request_again_to_the_broker_that_comes_back) {
  std::promise<JobId> first;
  auto silent = std::make_unique<ScriptedBroker>([&](const RequestBody& body) {
    first.set_value(std::get<JobSpec>(std::get<Submit>(body).jobs.at(0)).id);
    return Bodies{};
  });
  const std::string address = silent->address();
  auto call = std::async(std::launch::async, [&] {
    Client client({.broker = address, .timeout_ms = 60'000});
    return client.submit(echo());
  });
  const JobId id = first.get_future().get();
  silent.reset();
  ScriptedBroker next(
      [](const RequestBody& body) { return Bodies{accept_all(std::get<Submit>(body))}; },
      address);
  const auto result = call.get();
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->id, id.view());
}

// Of a client that was connected by this very call.
TEST(Client, outlives_an_outage_longer_than_its_time_out_in_a_wait_and_a_bulk_submit) {
  constexpr std::int64_t kTimeoutMs = 2'000;
  std::counting_semaphore<> heard(0);
  auto silent = std::make_unique<ScriptedBroker>([&](const RequestBody&) {
    heard.release();
    return Bodies{};
  });
  const ClientOptions options{.broker = silent->address(),
                              .timeout_ms = kTimeoutMs,
                              .outage_ms = 60'000};
  auto waited = std::async(std::launch::async, [&] {
    return Client(options).wait({JobId("a")}, 3'600'000).has_value();
  });
  auto submitted = std::async(std::launch::async, [&] {
    Client client(options);
    BulkSubmit bulk(client, {});
    return bulk.add(echo()).has_value() && bulk.finish().has_value();
  });
  heard.acquire();
  heard.acquire();
  silent.reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(kTimeoutMs + 500));
  ScriptedBroker next(
      [](const RequestBody& body) {
        const auto* submit = std::get_if<Submit>(&body);
        if (submit != nullptr) return Bodies{accept_all(*submit)};
        Waited answer;
        answer.jobs = {ended_view("a", JobState::completed)};
        return Bodies{std::move(answer)};
      },
      options.broker);
  EXPECT_TRUE(waited.get());
  EXPECT_TRUE(submitted.get());
}

TEST(Client, get_fetches_what_did_not_fit_and_keeps_the_order) {
  ScriptedBroker broker([](const RequestBody& body) -> Bodies {
    Jobs jobs;
    const auto& ids = std::get<Get>(body).ids;
    jobs.jobs.push_back(ended_view(ids.back().view(), JobState::completed));
    jobs.more.assign(ids.begin(), ids.end() - 1);
    return {std::move(jobs)};
  });
  Client client(patient(broker));
  const auto jobs = client.get({JobId("a"), JobId("b"), JobId("c")});
  ASSERT_TRUE(jobs);
  ASSERT_EQ(jobs->size(), 3U);
  EXPECT_EQ((*jobs)[0].id, JobId("a"));
  EXPECT_EQ((*jobs)[2].id, JobId("c"));
}

TEST(Client, wait_brings_each_end_and_fetches_what_did_not_fit) {
  ScriptedBroker broker([](const RequestBody& body) -> Bodies {
    if (std::holds_alternative<Get>(body)) return {Jobs{{ended_view("b", JobState::failed)}, {}}};
    Finished finished{{ended_view("a", JobState::completed, "ok")}, {JobId("b")}};
    return {std::move(finished), Waited{}};
  });
  Client client(patient(broker));
  std::vector<std::string> heard;
  const auto result = client.wait({JobId("a"), JobId("b")}, 60'000, [&](const JobView& job) {
    heard.push_back(job.id.str());
  });
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_THAT(heard, testing::ElementsAre("a", "b"));
  EXPECT_EQ(result->ended.at(0).job->result, "ok");
  EXPECT_TRUE(result->unfinished.empty());
}

TEST(Client, wait_lists_what_had_not_ended_in_time) {
  ScriptedBroker broker([](const RequestBody& body) -> Bodies {
    Waited waited;
    waited.unfinished = std::get<Wait>(body).ids;
    return {std::move(waited)};
  });
  Client client(patient(broker));
  const auto result = client.wait({JobId("a")}, 0);
  ASSERT_TRUE(result);
  EXPECT_THAT(result->unfinished, testing::ElementsAre(JobId("a")));
}

TEST(Client, a_wait_that_is_sent_again_asks_for_what_is_left_of_its_time) {
  std::promise<std::int64_t> first;
  auto silent = std::make_unique<ScriptedBroker>([&](const RequestBody& body) {
    first.set_value(std::get<Wait>(body).timeout_ms);
    return Bodies{};
  });
  const std::string address = silent->address();
  auto call = std::async(std::launch::async, [&] {
    Client client({.broker = address, .outage_ms = 60'000});
    return client.wait({JobId("a")}, 50'000).has_value();
  });
  const std::int64_t first_ms = first.get_future().get();
  silent.reset();
  std::atomic<std::int64_t> again_ms = 0;
  ScriptedBroker next(
      [&](const RequestBody& body) {
        again_ms = std::get<Wait>(body).timeout_ms;
        Waited answer;
        answer.jobs = {ended_view("a", JobState::completed)};
        return Bodies{std::move(answer)};
      },
      address);
  EXPECT_TRUE(call.get());
  EXPECT_LT(again_ms, first_ms);
}

// As one does whose Redis was away: its clock has stood.
TEST(Client, a_wait_that_is_answered_late_is_no_silence_when_the_broker_is_there) {
  ScriptedBroker broker([](const RequestBody& body) -> Bodies {
    if (std::holds_alternative<Ping>(body)) return {Pong{}};
    return {};
  });
  Client client({.broker = broker.address(), .timeout_ms = 2'000});
  const auto result = client.wait({JobId("a")}, 0);
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_THAT(result->unfinished, testing::ElementsAre(JobId("a")));
}

// No more than a minute each: the broker keeps one for so long whose sender is gone.
TEST(Client, a_long_wait_is_many_short_ones) {
  std::atomic<int> count = 0;
  ScriptedBroker broker([&](const RequestBody& body) -> Bodies {
    const auto& wait = std::get<Wait>(body);
    EXPECT_LE(wait.timeout_ms, 60'000);
    Waited waited;
    if (++count < 3)
      waited.unfinished = wait.ids;
    else
      waited.jobs = {ended_view("a", JobState::completed)};
    return {std::move(waited)};
  });
  Client client(patient(broker));
  const auto result = client.wait({JobId("a")}, 3'600'000);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->ended.size(), 1U);
  EXPECT_EQ(count, 3);
}

JobSpec large(std::size_t payload_bytes) {
  JobSpec job = echo();
  job.payload.assign(payload_bytes, 'x');
  return job;
}

// The broker cannot say to what it answers: it does not read so long a message.
TEST(Client, jobs_that_do_not_fit_into_a_message_are_refused_at_once_and_not_sent) {
  std::atomic<int> count = 0;
  ScriptedBroker broker([&](const RequestBody& body) {
    ++count;
    return Bodies{accept_all(std::get<Submit>(body))};
  });
  Client client(patient(broker));
  const auto nine = client.submit(std::vector<JobSpec>(9, large(kPayloadBytesMax)));
  ASSERT_FALSE(nine);
  EXPECT_EQ(nine.error().failure, ClientFailure::refused);
  EXPECT_EQ(nine.error().error.code, ErrorCode::too_large);
  EXPECT_EQ(nine.error().error.where, "jobs");
  const auto with_a_large_one = client.submit({echo(), large(kMessageBytesMax)});
  ASSERT_FALSE(with_a_large_one);
  EXPECT_EQ(with_a_large_one.error().error.where, "jobs[1].payload");
  EXPECT_EQ(count, 0);
  EXPECT_TRUE(client.submit(std::vector<JobSpec>(7, large(kPayloadBytesMax))));
  EXPECT_EQ(count, 1);
}

TEST(Client, a_job_that_no_message_holds_is_rejected_with_its_field) {
  ScriptedBroker broker([](const RequestBody&) { return Bodies{}; });
  Client client(patient(broker));
  const auto payload = client.submit(large(kMessageBytesMax));
  ASSERT_TRUE(payload);
  EXPECT_EQ(payload->status, SubmitStatus::rejected);
  EXPECT_EQ(payload->error->code, ErrorCode::too_large);
  EXPECT_EQ(payload->error->where, "jobs[0].payload");
  JobSpec job = echo();
  job.tags.assign(9, std::string(1 << 20, 't'));
  EXPECT_EQ(client.submit(job)->error->where, "jobs[0].tags");
}

TEST(Client, any_request_that_no_message_holds_is_refused_at_once) {
  ScriptedBroker broker([](const RequestBody&) { return Bodies{}; });
  Client client(patient(broker));
  const auto done = client.cancel({{JobId("a")}, {}}, std::string(9 << 20, 'r'));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().error.code, ErrorCode::too_large);
}

TEST(Client, queue_analysis_is_a_tagged_job_of_that_task) {
  JobSpec seen;
  ScriptedBroker broker([&](const RequestBody& body) {
    const auto& submit = std::get<Submit>(body);
    seen = std::get<JobSpec>(submit.jobs.at(0));
    return Bodies{accept_all(submit)};
  });
  Client client(patient(broker));
  ASSERT_TRUE(client.queue_analysis("AAPL", "2026-11-20", Priority::high));
  EXPECT_EQ(seen.task, "analysis");
  EXPECT_EQ(seen.priority, Priority::high);
  EXPECT_THAT(seen.tags, testing::ElementsAre("AAPL", "2026-11-20"));
}

TEST(Client, queue_analysis_refuses_a_wrong_date_or_ticker_and_names_the_field) {
  ScriptedBroker broker([](const RequestBody&) { return Bodies{}; });
  Client client(patient(broker));
  const auto field_of = [&](std::string_view ticker, std::string_view date) {
    const auto result = client.queue_analysis(ticker, date);
    return result ? "" : result.error().error.where;
  };
  EXPECT_EQ(field_of("AAPL", "2023-02-29"), "trade_date");
  EXPECT_EQ(field_of("AAPL", "20.11.2026"), "trade_date");
  EXPECT_EQ(field_of("AAPL", ""), "trade_date");
  EXPECT_EQ(field_of("AAPL", "0000-01-01"), "trade_date");
  EXPECT_EQ(field_of("a/b", "2026-11-20"), "ticker");
  EXPECT_THAT(client.queue_analysis("AAPL", "2023-02-29").error().message(),
              testing::HasSubstr("trade_date: must be a date such as 2024-01-15"));
}

TEST(BulkSubmit, brings_every_job_in_messages_of_a_thousand_and_repeats_what_must_wait) {
  std::size_t largest = 0;
  bool has_refused = false;
  ScriptedBroker broker([&](const RequestBody& body) {
    const auto& submit = std::get<Submit>(body);
    largest = std::max(largest, submit.jobs.size());
    Submitted submitted = accept_all(submit);
    if (!std::exchange(has_refused, true)) {
      submitted.results[7].status = SubmitStatus::rejected;
      submitted.results[7].error = Error{ErrorCode::retry_later, "jobs[7]", "later"};
    }
    return Bodies{std::move(submitted)};
  });
  Client client(patient(broker));
  std::multiset<std::uint64_t> accepted;
  BulkSubmit bulk(client, [&](std::uint64_t index, const SubmitResult& result) {
    if (result.status == SubmitStatus::accepted) accepted.insert(index);
  });
  for (int i = 0; i < 2500; ++i)
    ASSERT_TRUE(bulk.add(echo()));
  ASSERT_TRUE(bulk.finish());
  EXPECT_EQ(largest, kJobsPerSubmitMax);
  EXPECT_EQ(accepted.size(), 2500U);
  EXPECT_EQ(std::set<std::uint64_t>(accepted.begin(), accepted.end()).size(), 2500U);
}

TEST(BulkSubmit, a_job_that_no_message_holds_is_that_jobs_result_and_the_rest_goes_on) {
  ScriptedBroker broker(
      [](const RequestBody& body) { return Bodies{accept_all(std::get<Submit>(body))}; });
  Client client(patient(broker));
  std::map<std::uint64_t, SubmitResult> results;
  BulkSubmit bulk(client, [&](std::uint64_t index, const SubmitResult& result) {
    results[index] = result;
  });
  ASSERT_TRUE(bulk.add(echo("a")));
  JobSpec job = large(kMessageBytesMax);
  job.id = JobId("b");
  ASSERT_TRUE(bulk.add(std::move(job)));
  ASSERT_TRUE(bulk.add(echo("c")));
  ASSERT_TRUE(bulk.finish());
  ASSERT_EQ(results.size(), 3U);
  EXPECT_EQ(results[0].status, SubmitStatus::accepted);
  EXPECT_EQ(results[1].id, "b");
  EXPECT_EQ(results[1].status, SubmitStatus::rejected);
  EXPECT_EQ(results[1].error->code, ErrorCode::too_large);
  EXPECT_EQ(results[2].status, SubmitStatus::accepted);
}

// As the broker refuses it, job for job.
TEST(BulkSubmit, a_first_job_with_too_many_headers_does_not_end_the_rest) {
  ScriptedBroker broker([](const RequestBody& body) {
    Submitted submitted;
    for (const auto& job : std::get<Submit>(body).jobs)
      submitted.results.push_back(
          {"",
           std::holds_alternative<JobSpec>(job) ? SubmitStatus::accepted : SubmitStatus::rejected,
           {},
           {}});
    return Bodies{std::move(submitted)};
  });
  Client client(patient(broker));
  std::map<std::uint64_t, SubmitStatus> statuses;
  BulkSubmit bulk(client, [&](std::uint64_t index, const SubmitResult& result) {
    statuses[index] = result.status;
  });
  JobSpec job = echo();
  job.headers.assign(8'000, {"name", "value"});
  ASSERT_TRUE(bulk.add(std::move(job)));
  ASSERT_TRUE(bulk.add(echo()));
  const auto done = bulk.finish();
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(statuses.at(0), SubmitStatus::rejected);
  EXPECT_EQ(statuses.at(1), SubmitStatus::accepted);
}

TEST(BulkSubmit, gives_up_with_the_brokers_words_when_nothing_is_taken_for_too_long) {
  ScriptedBroker broker([](const RequestBody&) {
    return Bodies{ErrorReply{{ErrorCode::retry_later, "", "no memory"}, true, 1}};
  });
  Client client({.broker = broker.address(), .timeout_ms = 60'000, .outage_ms = 1});
  BulkSubmit bulk(client, {});
  ASSERT_TRUE(bulk.add(echo()));
  const auto done = bulk.finish();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().failure, ClientFailure::refused);
  EXPECT_EQ(done.error().error.code, ErrorCode::retry_later);
}

}  // namespace
}  // namespace sluice::producer_client_test
