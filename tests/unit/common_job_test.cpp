#include <rapidcheck.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/job.h"

namespace sluice::common_job_test {
namespace {

TEST(Job, words_of_states_priorities_outcomes_and_ends_come_back) {
  for (unsigned i = 0; i < kJobStates; ++i) {
    const auto state = static_cast<JobState>(i);
    EXPECT_EQ(parse_job_state(to_string(state)), state);
  }
  for (unsigned i = 0; i < kPriorities; ++i) {
    const auto priority = static_cast<Priority>(i);
    EXPECT_EQ(parse_priority(to_string(priority)), priority);
  }
  for (unsigned i = 0; i < 4; ++i) {
    const auto outcome = static_cast<Outcome>(i);
    EXPECT_EQ(parse_outcome(to_string(outcome)), outcome);
  }
  for (unsigned i = 0; i < 6; ++i) {
    const auto end = static_cast<AttemptEnd>(i);
    EXPECT_EQ(parse_attempt_end(to_string(end)), end);
  }
}

TEST(Job, words_are_lower_case_and_whole) {
  for (const char* wrong : {"", "Pending", "queue", "queuedx", " queued"}) {
    EXPECT_EQ(parse_job_state(wrong), std::nullopt) << wrong;
    EXPECT_EQ(parse_priority(wrong), std::nullopt) << wrong;
    EXPECT_EQ(parse_outcome(wrong), std::nullopt) << wrong;
    EXPECT_EQ(parse_attempt_end(wrong), std::nullopt) << wrong;
  }
}

// design.md, "States". Rows: from; columns: pending queued running completed failed cancelled.
TEST(Job, only_the_moves_of_the_table_are_legal) {
  constexpr bool kLegal[kJobStates][kJobStates] = {
      {false, true, false, false, true, true},  // pending: due; expired; cancelled
      {false, false, true, false, true, true},  // queued: dispatched; expired; cancelled
      {true, true, false, true, true, true},    // running: retried, handed back or lost, ended
      {false, false, false, false, false, false},
      {false, true, false, false, false, false},  // failed: a person's retry
      {false, true, false, false, false, false},  // cancelled: the same
  };
  for (unsigned from = 0; from < kJobStates; ++from)
    for (unsigned to = 0; to < kJobStates; ++to)
      EXPECT_EQ(is_legal_move(static_cast<JobState>(from), static_cast<JobState>(to)),
                kLegal[from][to])
          << to_string(static_cast<JobState>(from)) << " -> "
          << to_string(static_cast<JobState>(to));
}

TEST(Job, completed_failed_and_cancelled_are_ends) {
  EXPECT_FALSE(is_ended(JobState::pending) || is_ended(JobState::queued) ||
               is_ended(JobState::running));
  EXPECT_TRUE(is_ended(JobState::completed) && is_ended(JobState::failed) &&
              is_ended(JobState::cancelled));
}

JobSpec a_job() {
  JobSpec spec;
  spec.id = JobId("a");
  spec.task = "t";
  spec.payload = "payload";
  spec.tags = {"x", "y"};
  spec.headers = {{"h", "v"}};
  return spec;
}

JobSpec a_large_job() {
  JobSpec spec = a_job();
  spec.payload.assign(1000, 'x');
  spec.tags.assign(16, std::string(128, 'x'));
  for (std::size_t i = 0; i < 16; ++i)
    spec.headers.insert(spec.headers.end(),
                        {std::string(1 + i, 'n'), std::string(200 + 20 * i, 'v')});
  return spec;
}

using Change = std::function<void(JobSpec&)>;

TEST(Job, the_content_hash_covers_every_field_but_the_id) {
  const std::vector<Change> changes = {
      [](JobSpec& job) { job.task = "u"; },
      [](JobSpec& job) { job.queue = "other"; },
      [](JobSpec& job) { job.payload = "Payload"; },
      [](JobSpec& job) { job.payload += '\0'; },
      [](JobSpec& job) { job.payload.clear(); },
      [](JobSpec& job) { job.content_type = "text/plain"; },
      [](JobSpec& job) { job.priority = Priority::high; },
      [](JobSpec& job) { job.delay_ms = 1; },
      [](JobSpec& job) { job.run_at_ms = 1; },
      [](JobSpec& job) { job.expires_at_ms = 1; },
      [](JobSpec& job) { job.timeout_ms = 1; },
      [](JobSpec& job) { job.retry.max_retries = 1; },
      [](JobSpec& job) { job.retry.base_ms = 1; },
      [](JobSpec& job) { job.retry.factor = 1; },
      [](JobSpec& job) { job.retry.cap_ms = 1; },
      [](JobSpec& job) { job.retry.jitter = 1; },
      [](JobSpec& job) { job.keep_result_ms = 1; },
      [](JobSpec& job) { job.keep_payload = true; },
      [](JobSpec& job) { job.tags = {"x"}; },
      [](JobSpec& job) {
        job.tags = {"y", "x"};
      },
      [](JobSpec& job) { job.tags = {"xy"}; },
      [](JobSpec& job) {
        job.tags = {"x", "y", "h"};
      },
      [](JobSpec& job) { job.headers[0].name = "i"; },
      [](JobSpec& job) { job.headers[0].value = "w"; },
      [](JobSpec& job) {
        job.headers[0] = {"hv", ""};
      },
      [](JobSpec& job) {
        job.headers.push_back({"h2", "v"});
      },
      [](JobSpec& job) { job.headers.clear(); },
  };
  std::set<std::uint64_t> hashes = {content_hash_of(a_job())};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    JobSpec job = a_job();
    changes[i](job);
    EXPECT_TRUE(hashes.insert(content_hash_of(job)).second) << "change " << i;
  }
  JobSpec renamed = a_job();
  renamed.id = JobId("b");
  renamed.content_hash = 7;
  EXPECT_EQ(content_hash_of(renamed), content_hash_of(a_job()));
}

TEST(Job, texts_that_meet_are_told_apart) {
  EXPECT_TRUE(rc::check([](std::string left, std::string right) {
    JobSpec one = a_job();
    one.task = left, one.queue = right;
    JobSpec other = a_job();
    other.task = left + right, other.queue.clear();
    RC_PRE(!right.empty());
    RC_ASSERT(content_hash_of(one) != content_hash_of(other));
  }));
}

// Kept in Redis across versions: another value would turn every resend into a conflict.
TEST(Job, the_content_hash_is_the_same_in_every_version) {
  EXPECT_EQ(content_hash_of(a_job()), 11537628673082191949U);
  EXPECT_EQ(content_hash_of(a_large_job()), 4809229747691076197U);
}

// Texts beyond what is hashed in one piece count to their last byte, and in their order.
TEST(Job, the_content_hash_covers_long_texts_and_many) {
  const JobSpec large = a_large_job();
  std::set<std::uint64_t> hashes = {content_hash_of(large)};
  for (std::size_t i = 0; i < large.payload.size(); i += 97) {
    JobSpec job = large;
    job.payload[i] = 'y';
    EXPECT_TRUE(hashes.insert(content_hash_of(job)).second) << "payload byte " << i;
  }
  for (std::size_t i = 0; i < large.tags.size(); ++i) {
    JobSpec job = large;
    job.tags[i].back() = 'y';
    EXPECT_TRUE(hashes.insert(content_hash_of(job)).second) << "tag " << i;
  }
  for (std::size_t i = 0; i < large.headers.size(); ++i) {
    JobSpec job = large;
    job.headers[i].value.back() = 'y';
    EXPECT_TRUE(hashes.insert(content_hash_of(job)).second) << "header " << i;
    job = large;
    std::swap(job.headers[i].name, job.headers[i].value);
    EXPECT_TRUE(hashes.insert(content_hash_of(job)).second) << "header " << i;
  }
}

}  // namespace
}  // namespace sluice::common_job_test
