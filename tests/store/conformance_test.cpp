// One suite for both stores: the twin and a real redis-server answer alike.
#include <poll.h>

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "broker/store/keys.h"
#include "broker/store/log_entry.h"
#include "broker/store/memory_store.h"
#include "broker/store/redis_store.h"
#include "tests/support/redis_server.h"

namespace sluice {
namespace {

Now now() {
  using std::chrono::steady_clock;
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now().time_since_epoch())
          .count();
  return {ms, 1'700'000'000'000};
}

Job job(std::string_view id, JobState state, std::uint64_t batch) {
  Job job;
  job.spec.id = JobId(id);
  job.spec.task = "echo";
  job.spec.payload = std::string("pay\0load", 8);
  job.spec.tags = {"a", "b c"};
  job.spec.headers = {{"h", "v\"1"}};
  job.state = state;
  job.batch = batch;
  job.sequence = batch;
  job.created_ms = 1000;
  if (is_ended(state)) job.finished_ms = 2000 + static_cast<std::int64_t>(batch);
  if (state == JobState::completed) job.result = "bytes";
  job.attempts = {{1, "n@1", 1, 2, AttemptEnd::lost, "code", "text \xc3\xa4", 3, 4}};
  return job;
}

LogEntryPtr entry(std::uint64_t n, const std::vector<Job>& jobs, bool has_payload = true) {
  BatchWrites writes;
  for (const Job& each : jobs)
    writes.jobs.push_back({&each, has_payload});
  writes.next_sequence = n + 1;
  return std::make_shared<const LogEntry>(LogEntry{n, encode_entry(n, 5, writes)});
}

Filter page_of(JobState state) {
  Filter filter;
  filter.state = state;
  return filter;
}

class Conformance : public testing::TestWithParam<bool> {
 protected:
  Conformance() {
    if (GetParam()) {
      server_ = std::make_unique<test::RedisServer>();
    } else {
      memory_ = std::make_shared<MemoryRedis>();
    }
    new_store();
  }

  void new_store() {
    if (server_ == nullptr) {
      store_ = std::make_unique<MemoryStore>(memory_);
      return;
    }
    auto redis = std::make_unique<RedisStore>(
        RedisConfig{.address = *parse_redis_address(server_->address()), .password = {}});
    redis_ = redis.get();
    store_ = std::move(redis);
  }

  Opened open(std::uint64_t epoch_min = 5) {
    auto opened = store_->open("me", epoch_min, read_on);
    if (!opened) throw std::runtime_error(opened.error().detail);
    return std::move(*opened);
  }

  // Sends and waits for the answer.
  template <typename Reply>
  Reply ask(StoreRequest request) {
    store_->send(std::move(request));
    const auto deadline = now().mono_ms + 3000;
    while (now().mono_ms < deadline) {
      std::vector<StoreReply> replies;
      turn();
      store_->receive(replies);
      for (StoreReply& reply : replies) {
        if (auto* wanted = std::get_if<Reply>(&reply)) return std::move(*wanted);
        if (auto* refused = std::get_if<StoreRefused>(&reply)) ADD_FAILURE() << refused->reason;
      }
    }
    ADD_FAILURE() << "no answer";
    return {};
  }

  void turn() {
    if (redis_ == nullptr) return;
    redis_->on_ready(false, false, now());
    pollfd poll_fd{redis_->fd(),
                   static_cast<short>(POLLIN | (redis_->wants_write() ? POLLOUT : 0)),
                   0};
    if (poll(&poll_fd, 1, 50) <= 0) return;
    redis_->on_ready((poll_fd.revents & ~POLLOUT) != 0, (poll_fd.revents & POLLOUT) != 0, now());
  }

  CommitReply commit(std::uint64_t epoch, LogEntryPtr written) {
    return ask<CommitReply>(CommitRequest{epoch, std::move(written)});
  }

  ProjectReply project(std::vector<Job> jobs,
                       std::uint64_t checkpoint,
                       const std::function<void(ProjectRequest&)>& change = {}) {
    ProjectRequest request;
    request.epoch = 5;
    for (Job& each : jobs)
      request.rows.push_back({std::move(each), true});
    request.checkpoint = checkpoint;
    request.queues = {{"default", false, {.submitted = 7}}};
    request.next_sequence = 9;
    request.wall_ms = 10'000;
    if (change) change(request);
    return ask<ProjectReply>(std::move(request));
  }

  // The hash `nodes` and the stream `events`, as people find them.
  std::string nodes() const {
    if (server_ != nullptr) return server_->ask({"HGETALL", std::string(keys::kNodes)});
    std::string text;
    for (const auto& [node, json] : memory_->nodes)
      text += (text.empty() ? "" : "\n") + node + "\n" + json;
    return text;
  }

  std::size_t event_count() const {
    if (server_ == nullptr) return memory_->events.size();
    return std::stoul(server_->ask({"XLEN", std::string(keys::kEvents)}));
  }

  std::string oldest_event() const {
    if (server_ == nullptr) return memory_->events.front();
    const std::string entry =
        server_->ask({"XRANGE", std::string(keys::kEvents), "-", "+", "COUNT", "1"});
    return entry.substr(entry.rfind('\n') + 1);
  }

  std::unique_ptr<test::RedisServer> server_;
  std::shared_ptr<MemoryRedis> memory_;
  std::unique_ptr<Store> store_;
  RedisStore* redis_ = nullptr;
};

TEST_P(Conformance, commit_answers_by_number_and_epoch) {
  open();
  EXPECT_EQ(commit(5, entry(1, {})).answer, CommitAnswer::ok);
  EXPECT_EQ(commit(5, entry(1, {})).answer, CommitAnswer::already);
  const CommitReply gap = commit(5, entry(3, {}));
  EXPECT_EQ(gap.answer, CommitAnswer::gap);
  EXPECT_EQ(gap.value, 1u);
  const CommitReply fenced = commit(4, entry(2, {}));
  EXPECT_EQ(fenced.answer, CommitAnswer::fenced);
  EXPECT_EQ(fenced.value, 5u);
  EXPECT_EQ(commit(6, entry(2, {})).answer, CommitAnswer::rolled_back);
}

TEST_P(Conformance, take_over_needs_a_higher_epoch_and_moves_last_to_base) {
  open();
  EXPECT_FALSE(ask<TookOver>(TakeOver{5, 0, 0}).taken);
  const TookOver took = ask<TookOver>(TakeOver{6, 40, 0});
  EXPECT_TRUE(took.taken);
  EXPECT_EQ(took.meta.last, 40u);
  EXPECT_EQ(commit(6, entry(41, {})).answer, CommitAnswer::ok);
}

TEST_P(Conformance, the_log_is_read_by_number_over_gaps_and_in_pages) {
  open();
  for (std::uint64_t n = 1; n <= 3; ++n)
    EXPECT_EQ(commit(5, entry(n, {job("a", JobState::queued, n)})).answer, CommitAnswer::ok);
  ASSERT_TRUE(ask<TookOver>(TakeOver{6, 40, 0}).taken);
  for (std::uint64_t n = 41; n <= 40 + kLogPage; ++n)
    EXPECT_EQ(commit(6, entry(n, {})).answer, CommitAnswer::ok);
  const LogRead some = ask<LogRead>(ReadLog{2, 41});
  ASSERT_EQ(some.entries.size(), 3u);
  EXPECT_EQ(some.entries[0]->n, 2u);
  EXPECT_EQ(some.entries[0]->blob, entry(2, {job("a", JobState::queued, 2)})->blob);
  EXPECT_EQ(some.entries[2]->n, 41u);
  EXPECT_EQ(ask<LogRead>(ReadLog{1, 1000}).entries.size(), kLogPage);
  EXPECT_TRUE(ask<LogRead>(ReadLog{4, 40}).entries.empty());
}

TEST_P(Conformance, a_running_broker_does_not_take_the_state_back_from_its_successor) {
  open();
  auto running = std::move(store_);
  RedisStore* const running_redis = redis_;
  new_store();
  const auto successor = store_->open("successor", 8, read_on);
  ASSERT_TRUE(successor);
  EXPECT_EQ(successor->snapshot.epoch, 8U);
  store_ = std::move(running);
  redis_ = running_redis;
  const TookOver refused = ask<TookOver>(TakeOver{9, 0, 5});
  EXPECT_FALSE(refused.taken);
  EXPECT_EQ(refused.meta.epoch, 8U);
  EXPECT_EQ(refused.meta.owner, "successor");
  EXPECT_TRUE(ask<TookOver>(TakeOver{9, 0, 8}).taken) << "8 is what its start replaced";
  EXPECT_TRUE(ask<TookOver>(TakeOver{10, 0, 5}).taken) << "9 is its own: the answer was lost";
}

TEST_P(Conformance, a_restart_finds_the_view_and_the_log_behind_it) {
  open();
  const Job queued = job("a", JobState::queued, 1);
  Job running = job("b", JobState::running, 2);
  (void)commit(5, entry(1, {queued}));
  (void)project({queued}, 1);
  (void)commit(5, entry(2, {running}));
  Job moved = job("a", JobState::running, 3);
  moved.spec.payload.clear();
  (void)commit(5, entry(3, {moved}, false));
  new_store();
  const Opened opened = open(0);
  EXPECT_EQ(opened.snapshot.epoch, 6u);
  EXPECT_EQ(opened.snapshot.last, 3u);
  EXPECT_EQ(opened.snapshot.checkpoint, 1u);
  EXPECT_EQ(opened.snapshot.next_sequence, 9u);
  EXPECT_EQ(opened.unprojected.size(), 2u);
  ASSERT_EQ(opened.snapshot.jobs.size(), 2u);
  for (const Job& each : opened.snapshot.jobs) {
    EXPECT_EQ(each.state, JobState::running);
    EXPECT_EQ(each.spec.payload, queued.spec.payload) << each.id().view();
    EXPECT_EQ(each.attempts, queued.attempts);
    EXPECT_EQ(each.spec.headers, queued.spec.headers);
  }
  ASSERT_EQ(opened.snapshot.queues.size(), 1u);
  EXPECT_EQ(opened.snapshot.queues[0].totals.submitted, 7u);
}

TEST_P(Conformance, a_job_whose_payload_is_gone_is_known_for_it) {
  open();
  (void)commit(5, entry(1, {job("a", JobState::queued, 1)}, false));
  Job empty = job("b", JobState::queued, 2);
  empty.spec.payload.clear();
  (void)commit(5, entry(2, {empty}));
  (void)commit(5, entry(3, {job("c", JobState::completed, 3)}, false));
  new_store();
  const Opened opened = open(0);
  ASSERT_EQ(opened.snapshot.jobs.size(), 3U);
  for (const Job& each : opened.snapshot.jobs)
    EXPECT_EQ(each.is_payload_lost, each.id() == JobId("a")) << each.id().view();
}

TEST_P(Conformance, a_reading_that_is_given_up_can_be_begun_again) {
  open();
  const Job queued = job("a", JobState::queued, 1);
  (void)commit(5, entry(1, {queued}));
  (void)project({queued}, 1);
  new_store();
  const auto given_up = store_->open("me", 6, [](std::size_t) { return false; });
  ASSERT_FALSE(given_up);
  EXPECT_EQ(given_up.error().code, ErrorCode::store_unavailable);
  EXPECT_EQ(open(7).snapshot.jobs.size(), 1u);
}

TEST_P(Conformance, a_restart_finds_every_job_of_many_queues_and_of_a_long_one) {
  constexpr std::size_t kJobs = 10'500, kQueues = 250, kRows = 500;
  open();
  std::vector<Job> jobs;
  for (std::size_t i = 0; i < kJobs; ++i) {
    jobs.push_back(job("j" + std::to_string(i), JobState::queued, 1));
    jobs.back().sequence = i + 1;
    if (i < kQueues) jobs.back().spec.queue = "q" + std::to_string(i);
  }
  (void)commit(5, entry(1, {jobs[0]}));
  for (std::size_t first = 0; first < kJobs; first += kRows)
    (void)project({jobs.begin() + static_cast<std::ptrdiff_t>(first),
                   jobs.begin() + static_cast<std::ptrdiff_t>(first + kRows)},
                  1,
                  [&](ProjectRequest& request) {
                    if (first + kRows < kJobs) request.checkpoint.reset();
                    for (std::size_t i = 0; i < kQueues; ++i)
                      request.queues.push_back(
                          {"q" + std::to_string(i), i == 7, {.submitted = i, .completed = 1}});
                  });
  new_store();
  const Opened opened = open(0);
  ASSERT_EQ(opened.snapshot.queues.size(), kQueues + 1);
  for (const QueueRecord& queue : opened.snapshot.queues) {
    if (queue.name == "default") continue;
    EXPECT_EQ(queue.totals.submitted, std::stoul(queue.name.substr(1)));
    EXPECT_EQ(queue.is_paused, queue.name == "q7");
  }
  std::set<std::string> found;
  for (const Job& each : opened.snapshot.jobs)
    found.insert(each.id().str());
  EXPECT_EQ(opened.snapshot.jobs.size(), kJobs) << "none twice";
  EXPECT_EQ(found.size(), kJobs);
}

TEST_P(Conformance, a_restart_remembers_a_job_that_was_deleted_before_the_view_had_its_end) {
  open();
  (void)commit(5, entry(1, {job("a", JobState::running, 1)}));
  (void)project({job("a", JobState::running, 1)}, 1);
  BatchWrites writes;  // it ends and is deleted within one batch: its end is written nowhere
  writes.removed = {{JobId("a"), {hash_id("a"), 77, JobState::failed, 3000}}};
  (void)commit(5, std::make_shared<const LogEntry>(LogEntry{2, encode_entry(2, 5, writes)}));
  new_store();
  const Opened opened = open(0);
  EXPECT_TRUE(opened.snapshot.jobs.empty());
  ASSERT_EQ(opened.snapshot.deleted.size(), 1U);
  EXPECT_EQ(opened.snapshot.deleted[0].id, JobId("a"));
  EXPECT_EQ(opened.snapshot.deleted[0].batch, 2U);
  ASSERT_EQ(opened.snapshot.ended.size(), 1U);
  EXPECT_EQ(opened.snapshot.ended[0].id, hash_id("a"));
  EXPECT_EQ(opened.snapshot.ended[0].content_hash, 77U);
}

TEST_P(Conformance, an_older_row_changes_nothing_and_a_repeated_one_neither) {
  open();
  (void)project({job("a", JobState::completed, 3)}, 3);
  (void)project({job("a", JobState::queued, 2)}, 3);
  (void)project({job("a", JobState::completed, 3)}, 3);
  const FetchedJobs fetched = ask<FetchedJobs>(FetchJobs{1, {JobId("a"), JobId("none")}});
  EXPECT_EQ(fetched.batch, 3U) << "what the view contains";
  EXPECT_EQ(fetched.epoch, 5U);
  ASSERT_EQ(fetched.jobs.size(), 1u);
  EXPECT_EQ(fetched.jobs[0].state, JobState::completed);
  EXPECT_EQ(fetched.jobs[0].result, "bytes");
  EXPECT_EQ(fetched.jobs[0].spec.payload, "") << "a completed job loses its payload";
}

// A connection is given up for lost while a call of it is still under way in the network.
TEST_P(Conformance, a_call_that_comes_late_brings_nothing_back) {
  open();
  const auto queue = [](bool is_paused) {
    return [=](ProjectRequest& request) {
      request.queues = {{"default", is_paused, {.submitted = 7}}};
    };
  };
  (void)project({job("a", JobState::completed, 2)}, 2);
  (void)project({}, 3, [](ProjectRequest& request) { request.removed = {JobId("a")}; });
  (void)project({}, 4, queue(true));
  (void)project({job("a", JobState::running, 1)}, 1, queue(false));
  EXPECT_TRUE(ask<FetchedJobs>(FetchJobs{1, {JobId("a")}}).jobs.empty());
  EXPECT_TRUE(ask<FetchedList>(FetchList{2, page_of(JobState::running)}).jobs.empty());
  new_store();
  const Opened opened = open(0);
  EXPECT_TRUE(opened.snapshot.jobs.empty());
  ASSERT_EQ(opened.snapshot.queues.size(), 1U);
  EXPECT_TRUE(opened.snapshot.queues[0].is_paused);
}

TEST_P(Conformance, retention_by_count_spares_what_is_new_and_what_is_kept) {
  open();
  std::vector<Job> jobs;
  for (std::uint64_t batch = 1; batch <= 4; ++batch)
    jobs.push_back(job("j" + std::to_string(batch), JobState::completed, batch));
  jobs[0].spec.keep_result_ms = 60'000;
  const auto trim = [](ProjectRequest& request) {
    request.trim_queues = {"default"};
    request.trim_before_batch = 3;
    request.retention.keep_count = 1;
  };
  EXPECT_EQ(project(jobs, 4, trim).removed, 2u);
  const auto left = ask<FetchedList>(FetchList{2, page_of(JobState::completed)});
  ASSERT_EQ(left.jobs.size(), 2u);
  EXPECT_EQ(left.jobs[0].id().view(), "j4");
  EXPECT_EQ(left.jobs[1].id().view(), "j1");
}

TEST_P(Conformance, what_ended_long_ago_goes_only_together_with_a_record_of_it) {
  constexpr std::int64_t kWallMs = 500'000;
  open();
  Job old = job("old", JobState::completed, 1);
  Job recent = job("recent", JobState::failed, 1);
  Job retried = job("retried", JobState::cancelled, 1);
  old.spec.content_hash = 18'446'744'073'709'551'615U;
  old.finished_ms = retried.finished_ms = kWallMs - kEndedFreshMs - 1;
  recent.finished_ms = kWallMs - kEndedFreshMs;
  const auto trim = [](ProjectRequest& request) {
    request.trim_queues = {"default"};
    request.trim_before_batch = 1;
    request.retention = {1, 1, 0};
    request.wall_ms = kWallMs;
  };
  const ProjectReply found = project({old, recent, retried}, 1, trim);
  EXPECT_EQ(found.removed, 1U);
  ASSERT_EQ(found.to_retire.size(), 2U);
  EXPECT_EQ(found.to_retire[0].id, JobId("old"));
  EXPECT_EQ(found.to_retire[0].batch, 1U);
  EXPECT_EQ(found.to_retire[0].ended,
            (EndedRecord{hash_id("old"), old.spec.content_hash, JobState::completed, 439'999}));
  EXPECT_EQ(found.to_retire[1].id, JobId("retried"));
  EXPECT_EQ(ask<FetchedJobs>(FetchJobs{1, {JobId("old"), JobId("recent")}}).jobs.size(), 1U);
  (void)project({job("retried", JobState::queued, 2)}, 2);
  const ProjectReply gone = project({}, 2, [&](ProjectRequest& request) {
    request.retired = found.to_retire;
    trim(request);
  });
  EXPECT_EQ(gone.removed, 1U);
  EXPECT_TRUE(gone.to_retire.empty());
  EXPECT_TRUE(ask<FetchedList>(FetchList{2, page_of(JobState::completed)}).jobs.empty());
  EXPECT_EQ(ask<FetchedList>(FetchList{3, page_of(JobState::queued)}).jobs.size(), 1U)
      << "it has changed since";
}

TEST_P(Conformance, list_goes_on_behind_its_cursor) {
  open();
  (void)project(
      {job("a", JobState::queued, 1), job("b", JobState::queued, 2), job("c", JobState::queued, 3)},
      3);
  Filter filter = page_of(JobState::queued);
  filter.limit = 2;
  const auto first = ask<FetchedList>(FetchList{1, filter});
  ASSERT_EQ(first.jobs.size(), 2u);
  EXPECT_EQ(first.batch, 3u);
  filter.cursor = first.cursor;
  const auto second = ask<FetchedList>(FetchList{2, filter});
  ASSERT_EQ(second.jobs.size(), 1u);
  EXPECT_EQ(second.jobs[0].id().view(), "c");
  EXPECT_EQ(second.cursor, "");
  filter.cursor = "nonsense";
  EXPECT_TRUE(ask<FetchedList>(FetchList{3, filter}).error.has_value());
}

TEST_P(Conformance, nodes_come_and_go_and_a_new_owner_begins_without_any) {
  open();
  (void)project({}, 0, [](ProjectRequest& request) {
    request.nodes = {{"a@1", R"({"free":1})"}, {"b@1", "{}"}};
  });
  EXPECT_EQ(nodes(), "a@1\n{\"free\":1}\nb@1\n{}");
  (void)project({}, 0, [](ProjectRequest& request) { request.nodes = {{"b@1", ""}}; });
  EXPECT_EQ(nodes(), "a@1\n{\"free\":1}");
  new_store();
  open(0);
  EXPECT_EQ(nodes(), "");
}

TEST_P(Conformance, of_the_events_the_newest_ten_thousand_are_kept) {
  open();
  for (int call = 0; call < 11; ++call)
    (void)project({}, 0, [&](ProjectRequest& request) {
      for (int i = 0; i < 1000; ++i)
        request.events.push_back("{\"n\":" + std::to_string(call * 1000 + i) + "}");
    });
  EXPECT_EQ(event_count(), 10'000U);
  EXPECT_EQ(oldest_event(), R"({"n":1000})");
}

// ---------------------------------------------------------------- logs of jobs

AddToLogs logged(std::uint64_t epoch,
                 const std::vector<std::pair<std::string, std::string>>& said,
                 std::uint32_t attempt = 1) {
  auto added = std::make_shared<std::vector<AddedLog>>();
  for (const auto& [id, bytes] : said)
    added->push_back({JobId(id), {0, attempt, 1000 + attempt, bytes}});
  return {.epoch = epoch, .added = std::move(added), .bytes_max = 1U << 30};
}

// Of the pages from `from` on.
std::vector<LogChunk> all_of(const std::function<FetchedJobLog(std::uint64_t)>& read,
                             std::uint64_t from = 0) {
  std::vector<LogChunk> all;
  while (true) {
    const FetchedJobLog page = read(from);
    if (page.chunks.empty()) return all;
    all.insert(all.end(), page.chunks.begin(), page.chunks.end());
    from = page.chunks.back().offset + page.chunks.back().bytes.size();
  }
}

TEST_P(Conformance, a_jobs_log_has_what_was_added_with_its_place_attempt_and_time) {
  open();
  const std::string bytes("\xff\0\n", 3);
  const auto first = ask<AddedToLogs>(logged(5, {{"a", "one\n"}, {"b", "x"}, {"a", bytes}}));
  EXPECT_TRUE(first.is_taken);
  EXPECT_EQ(first.ends, (std::vector<std::uint64_t>{4, 1, 7}));
  EXPECT_EQ(ask<AddedToLogs>(logged(5, {{"a", "two"}}, 2)).ends, (std::vector<std::uint64_t>{10}));
  const auto page = ask<FetchedJobLog>(FetchJobLog{9, JobId("a"), 0});
  EXPECT_EQ(page.token, 9u);
  EXPECT_EQ(page.size, 10u);
  EXPECT_EQ(
      page.chunks,
      (std::vector<LogChunk>{{0, 1, 1001, "one\n"}, {4, 1, 1001, bytes}, {7, 2, 1002, "two"}}));
  EXPECT_EQ(ask<FetchedJobLog>(FetchJobLog{9, JobId("a"), 4}).chunks.size(), 2u);
  EXPECT_EQ(ask<FetchedJobLog>(FetchJobLog{9, JobId("a"), 5}).chunks.size(), 2u)
      << "its end counts";
  EXPECT_EQ(ask<FetchedJobLog>(FetchJobLog{9, JobId("a"), 10}).chunks.size(), 0u);
  EXPECT_EQ(ask<FetchedJobLog>(FetchJobLog{9, JobId("a"), 11}).size, 10u);
  const auto none = ask<FetchedJobLog>(FetchJobLog{9, JobId("c"), 0});
  EXPECT_EQ(none.size, 0u);
  EXPECT_TRUE(none.chunks.empty());
}

TEST_P(Conformance, only_the_owner_adds_to_logs) {
  open();
  EXPECT_FALSE(ask<AddedToLogs>(logged(4, {{"a", "x"}})).is_taken);
  EXPECT_FALSE(ask<AddedToLogs>(logged(6, {{"a", "x"}})).is_taken);
  EXPECT_EQ(ask<FetchedJobLog>(FetchJobLog{1, JobId("a"), 0}).size, 0u);
}

TEST_P(Conformance, of_a_log_the_newest_mebibyte_is_kept_and_read_in_pages) {
  open();
  constexpr std::size_t kBytes = 10'000;
  std::uint64_t size = 0;
  for (int call = 0; call < 30; ++call) {
    std::vector<std::pair<std::string, std::string>> said;
    for (int i = 0; i < 10; ++i)
      said.emplace_back("a", std::string(kBytes, static_cast<char>('a' + i)));
    size = ask<AddedToLogs>(logged(5, said)).ends.back();
  }
  EXPECT_EQ(size, 3'000'000u);
  std::size_t pages = 0;
  const auto chunks = all_of([&](std::uint64_t from) {
    ++pages;
    const auto page = ask<FetchedJobLog>(FetchJobLog{1, JobId("a"), from});
    std::size_t bytes = 0;
    for (const LogChunk& chunk : page.chunks)
      bytes += chunk.bytes.size();
    EXPECT_LE(bytes, kLogPageBytes);
    EXPECT_EQ(page.size, size);
    return page;
  });
  EXPECT_EQ(chunks.size(), 104u);
  EXPECT_GE(pages, 4u);
  EXPECT_EQ(chunks.back().offset, size - kBytes);
  EXPECT_GE(chunks.front().offset, size - kLogKeptBytes);
  for (std::size_t i = 1; i < chunks.size(); ++i)
    EXPECT_EQ(chunks[i].offset, chunks[i - 1].offset + kBytes);
}

TEST_P(Conformance, a_log_of_many_small_pieces_keeps_the_newest) {
  open();
  const std::vector<std::pair<std::string, std::string>> said(1000, {"a", "ab"});
  for (int call = 0; call < 17; ++call)
    (void)ask<AddedToLogs>(logged(5, said));
  const auto chunks = all_of([&](std::uint64_t from) {
    return ask<FetchedJobLog>(FetchJobLog{1, JobId("a"), from});
  });
  EXPECT_EQ(chunks.size(), kLogChunksKept);
  EXPECT_EQ(chunks.front().offset, 2 * (17'000 - kLogChunksKept));
}

TEST_P(Conformance, all_logs_together_are_bounded_and_have_room_again_when_jobs_go) {
  open();
  const auto add = [&](std::vector<std::pair<std::string, std::string>> said) {
    AddToLogs request = logged(5, said);
    request.bytes_max = 1'100'000;
    return ask<AddedToLogs>(std::move(request)).ends;
  };
  // Of a job that fills its ring only what is kept counts.
  for (int call = 0; call < 20; ++call)
    (void)add(
        std::vector<std::pair<std::string, std::string>>(10, {"a", std::string(10'000, 'x')}));
  EXPECT_EQ(add({{"b", std::string(16'000, 'x')}, {"b", std::string(16'000, 'x')}}),
            (std::vector<std::uint64_t>{16'000, 32'000}));
  const auto full = add({{"b", std::string(16'000, 'x')},
                         {"b", std::string(16'000, 'x')},
                         {"b", std::string(16'000, 'x')},
                         {"c", "y"}});
  EXPECT_EQ(full, (std::vector<std::uint64_t>{48'000, 0, 0, 1}))
      << "1 040 000 of `a`, 48 000 of `b`";
  (void)project({}, 1, [](ProjectRequest& request) { request.removed = {JobId("a")}; });
  EXPECT_EQ(add({{"b", std::string(16'000, 'x')}}), (std::vector<std::uint64_t>{64'000}));
  (void)project({}, 1, [](ProjectRequest& request) {
    request.removed = {JobId("b"), JobId("c"), JobId("never")};
  });
  if (server_ != nullptr)
    EXPECT_EQ(server_->ask({"HGET", std::string(keys::kMeta), "log_bytes"}), "0");
  else
    EXPECT_EQ(memory_->log_bytes, 0u);
}

TEST_P(Conformance, a_log_goes_with_its_job) {
  open();
  (void)commit(5, entry(1, {job("a", JobState::completed, 1), job("b", JobState::completed, 1)}));
  (void)ask<AddedToLogs>(logged(5, {{"a", "x"}, {"b", "x"}, {"never", "x"}, {"old", "x"}}));
  (void)project({job("a", JobState::completed, 1),
                 job("b", JobState::completed, 1),
                 job("old", JobState::completed, 1)},
                1);
  const auto size_of = [&](const char* id) {
    return ask<FetchedJobLog>(FetchJobLog{1, JobId(id), 0}).size;
  };
  EXPECT_EQ(size_of("a"), 1u);
  (void)project({}, 1, [](ProjectRequest& request) {
    request.removed = {JobId("a"), JobId("never")};
  });
  EXPECT_EQ(size_of("a"), 0u);
  EXPECT_EQ(size_of("never"), 0u) << "a job that the view never had";
  (void)project({}, 1, [](ProjectRequest& request) {
    request.retired = {{JobId("b"), 1, {}}, {JobId("old"), 7, {}}};
  });
  EXPECT_EQ(size_of("b"), 0u);
  EXPECT_EQ(size_of("old"), 1u) << "it has changed since, and stays";
  const ProjectReply trimmed = project({}, 1, [](ProjectRequest& request) {
    request.trim_queues = {"default"};
    request.retention.keep_ms = 1;
    request.trim_before_batch = 1;
  });
  EXPECT_EQ(trimmed.removed, 1u);
  EXPECT_EQ(size_of("old"), 0u);
}

// The same over people's hands: whatever stands at the name of a log is out of the way, not lost.
TEST(RedisStoreLogs, of_somebody_else_are_set_aside) {
  test::RedisServer server;
  RedisStore store(RedisConfig{.address = *parse_redis_address(server.address()), .password = {}});
  ASSERT_TRUE(store.open("me", 5, read_on));
  (void)server.ask({"SET", keys::job_log("a"), "mine"});
  (void)server.ask({"XADD", keys::job_log("b"), "18446744073709551615-1", "f", "v"});
  store.send(logged(5, {{"a", "x"}, {"b", "x"}}));
  store.send(FetchJobLog{1, JobId("b"), 0});
  std::vector<StoreReply> replies;
  std::optional<FetchedJobLog> fetched;
  for (int i = 0; i < 200 && !fetched; ++i) {
    pollfd poll_fd{store.fd(), static_cast<short>(POLLIN | (store.wants_write() ? POLLOUT : 0)), 0};
    (void)poll(&poll_fd, 1, 50);
    store.on_ready((poll_fd.revents & ~POLLOUT) != 0, (poll_fd.revents & POLLOUT) != 0, now());
    store.receive(replies);
    for (const StoreReply& reply : replies)
      if (const auto* found = std::get_if<FetchedJobLog>(&reply)) fetched = *found;
  }
  ASSERT_TRUE(fetched);
  EXPECT_EQ(fetched->chunks, (std::vector<LogChunk>{{0, 1, 1001, "x"}}));
  EXPECT_EQ(server.ask({"GET", std::string(keys::kPrefix) + "foreign:log:a"}), "mine");
  EXPECT_EQ(server.ask({"XLEN", std::string(keys::kPrefix) + "foreign:log:b"}), "1");
}

// What a person has done to Redis ends no start, and is named.
TEST(RedisStoreOpen, a_job_in_two_indexes_is_read_once_and_one_without_its_hash_is_told) {
  test::RedisServer server;
  const auto open = [&] {
    RedisStore store(
        RedisConfig{.address = *parse_redis_address(server.address()), .password = {}});
    return store.open("me", 1, read_on).value();
  };
  (void)open();
  FieldPairs fields = to_fields(ViewRow{job("a", JobState::running, 1), true});
  std::vector<std::string> hash{"HSET", keys::job("a")};
  for (const auto& [name, text] : fields)
    hash.insert(hash.end(), {name, text});
  (void)server.ask(hash);
  for (const JobState state : {JobState::running, JobState::pending})
    (void)server.ask({"ZADD", keys::index(state, {}), "1", "a"});
  (void)server.ask({"ZADD", keys::index(JobState::running, {}), "1", "gone"});
  const Opened opened = open();
  ASSERT_EQ(opened.snapshot.jobs.size(), 1U);
  EXPECT_EQ(opened.snapshot.jobs[0].state, JobState::running);
  EXPECT_THAT(opened.unreadable, testing::UnorderedElementsAre("a", "gone"));
}

INSTANTIATE_TEST_SUITE_P(Store, Conformance, testing::Values(false, true), [](const auto& each) {
  return each.param ? "redis" : "memory";
});

}  // namespace
}  // namespace sluice
