// The two forms of a job, and what becomes of entries on their way into the view.
#include <gtest/gtest.h>

#include "broker/store/log_entry.h"
#include "broker/store/projector.h"
#include "broker/store/view_row.h"

namespace sluice {
namespace {

Job full_job() {
  Job job;
  job.spec.id = JobId("full:1");
  job.spec.task = "t";
  job.spec.queue = "q";
  job.spec.payload = std::string("\0\xff", 2);
  job.spec.priority = Priority::critical;
  job.spec.retry = {7, 10, 1.5, 20, 0.25};
  job.spec.tags = {"x"};
  job.spec.headers = {{"a", "b"}};
  job.spec.timeout_ms = 0;
  job.spec.content_hash = UINT64_MAX;
  job.state = JobState::failed;
  job.life = 3;
  job.epoch = 99;
  job.attempt = 4;
  job.batch = 1ULL << 40;
  job.error = "e";
  job.checkpoint = std::string("\1\2\0", 3);
  job.finished_ms = 1'700'000'000'000;
  job.attempts = {{4, "n@1", 5, 6, AttemptEnd::timed_out, "c", "m", 7, 8}};
  return job;
}

std::string blob_of(const Job& job, std::uint64_t n, bool has_payload = true) {
  BatchWrites writes;
  writes.jobs.push_back({&job, has_payload});
  return encode_entry(n, 1, writes);
}

TEST(Forms, a_job_comes_back_whole_from_the_log_and_from_the_view) {
  const Job job = full_job();
  const auto decoded = decode_entry(blob_of(job, 1));
  ASSERT_TRUE(decoded.has_value()) << decoded.error().detail;
  ASSERT_EQ(decoded->jobs.size(), 1u);
  const FieldPairs expected = to_fields({job, true});
  EXPECT_EQ(to_fields(decoded->jobs[0]), expected);
  const auto read = from_fields("full:1", expected);
  ASSERT_TRUE(read.has_value()) << read.error().where;
  EXPECT_EQ(to_fields({*read, true}), expected);
  EXPECT_EQ(blob_of(*read, 1), blob_of(job, 1));
}

TEST(Forms, the_outcome_of_an_attempt_is_read_under_its_older_name_too) {
  FieldPairs fields = to_fields({full_job(), true});
  std::size_t renamed = 0;
  for (auto& [name, text] : fields)
    if (const auto at = text.find(R"("outcome")"); name == "attempts" && at != std::string::npos)
      text.replace(at, 9, R"("end")"), ++renamed;
  ASSERT_EQ(renamed, 1u);
  const auto read = from_fields("full:1", fields);
  ASSERT_TRUE(read.has_value()) << read.error().where;
  EXPECT_EQ(read->attempts.at(0).end, AttemptEnd::timed_out);
}

TEST(Forms, a_removal_comes_with_what_is_remembered_of_the_job) {
  BatchWrites writes;
  const EndedRecord record{hash_id("gone"), 77, JobState::cancelled, 3000};
  writes.removed = {{JobId("gone"), record}};
  const auto decoded = decode_entry(encode_entry(1, 1, writes));
  ASSERT_TRUE(decoded.has_value()) << decoded.error().detail;
  EXPECT_EQ(decoded->removed, std::vector<JobId>{JobId("gone")});
  std::vector<EndedRecord> records;
  read_ended(decoded->removed_ended, records);
  EXPECT_EQ(records, std::vector<EndedRecord>{record});
  Projector projector({}, 0, 0, 0);
  projector.add(std::make_shared<const LogEntry>(LogEntry{1, encode_entry(1, 1, writes)}),
                Now{1000, 5000});
  const auto call = projector.next(Now{1000, 5000});
  ASSERT_TRUE(call.has_value());
  EXPECT_EQ(call->removed, std::vector<JobId>{JobId("gone")});
  EXPECT_EQ(call->ended_blob, decoded->removed_ended);
}

TEST(Forms, a_cut_entry_is_malformed_at_every_length) {
  const std::string blob = blob_of(full_job(), 1);
  for (std::size_t size = 0; size < blob.size(); ++size)
    EXPECT_FALSE(decode_entry(blob.substr(0, size)).has_value()) << size;
}

TEST(Projection, newest_record_wins_and_keeps_the_payload_of_its_submit) {
  Projector projector({}, 0, 0, 0);
  const Now now{1000, 5000};
  Job job = full_job();
  job.batch = 1;
  const auto add = [&](std::uint64_t n, bool has_payload) {
    projector.add(std::make_shared<const LogEntry>(LogEntry{n, blob_of(job, n, has_payload)}), now);
  };
  add(1, true);
  job.batch = 2;
  job.error = "newer";
  add(2, false);
  const auto call = projector.next(now);
  ASSERT_TRUE(call.has_value());
  ASSERT_EQ(call->rows.size(), 1u);
  EXPECT_EQ(call->rows[0].job.error, "newer");
  EXPECT_TRUE(call->rows[0].has_payload);
  EXPECT_EQ(call->rows[0].job.spec.payload, job.spec.payload);
  EXPECT_EQ(call->checkpoint, 2u);
  EXPECT_FALSE(projector.next(now).has_value()) << "one call at a time";
  projector.failed();
  const Now later{2000, 6000};
  ASSERT_TRUE(projector.next(later).has_value()) << "a failed round begins again";
  projector.done({}, later);
  EXPECT_EQ(projector.checkpoint(), 2u);
  EXPECT_FALSE(projector.has_work());
}

TEST(Projection, born_and_ended_beyond_the_count_is_left_out_and_counted) {
  ProjectorConfig config;
  config.retention.keep_count = 2;
  Projector projector(config, 0, 0, 0);
  const Now now{1000, 5000};
  for (std::uint64_t n = 1; n <= 5; ++n) {
    Job job;
    job.spec.id = JobId("j" + std::to_string(n));
    job.state = JobState::completed;
    job.batch = n;
    job.created_ms = 5000;
    projector.add(std::make_shared<const LogEntry>(LogEntry{n, blob_of(job, n)}), now);
  }
  const auto call = projector.next(now);
  ASSERT_TRUE(call.has_value());
  EXPECT_EQ(call->rows.size(), 2u);
  EXPECT_EQ(call->finished_not_kept, 3u);
  EXPECT_EQ(call->ended_blob.size(), 5u * 32) << "all five are remembered";
  projector.done({}, now);
  EXPECT_EQ(projector.finished_not_kept(), 3u);
}

}  // namespace
}  // namespace sluice
