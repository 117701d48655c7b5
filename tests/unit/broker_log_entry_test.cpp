#include <rapidcheck.h>

#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "broker/store/log_entry.h"
#include "broker/store/view_row.h"
#include "common/protocol/msgpack.h"

namespace sluice::broker_log_entry_test {
namespace {

using namespace std::string_literals;
using Texts = std::vector<std::string>;
using msgpack::Reader;
using msgpack::Writer;

// ---------------------------------------------------------------- any job

std::string any_bytes() {
  return *rc::gen::arbitrary<std::string>();
}

// As often what is left out as not.
template <typename T>
T any(T normal) {
  return *rc::gen::arbitrary<bool>() ? *rc::gen::arbitrary<T>() : normal;
}

template <typename Enum>
Enum any_word(std::size_t words) {
  return static_cast<Enum>(*rc::gen::inRange<std::size_t>(0, words));
}

JobId any_id() {
  const auto letters = rc::gen::container<std::string>(rc::gen::elementOf(std::string("aZ9_.:-")));
  return JobId((*letters + "x").substr(0, kIdBytesMax));
}

AttemptRecord any_attempt() {
  return {any(0U),
          any_bytes(),
          any<std::int64_t>(0),
          any<std::int64_t>(0),
          any_word<AttemptEnd>(6),
          any_bytes(),
          any_bytes(),
          any<std::int64_t>(0),
          any<std::int64_t>(0)};
}

JobSpec any_spec() {
  JobSpec spec;
  spec.id = any_id();
  spec.task = any_bytes();
  spec.queue = any_bytes();
  spec.payload = any_bytes();
  spec.content_type = any_bytes();
  spec.priority = any_word<Priority>(kPriorities);
  for (std::int64_t* ms : {&spec.delay_ms,
                           &spec.run_at_ms,
                           &spec.expires_at_ms,
                           &spec.timeout_ms,
                           &spec.keep_result_ms,
                           &spec.retry.base_ms,
                           &spec.retry.cap_ms})
    *ms = any(*ms);
  spec.retry.max_retries = any(spec.retry.max_retries);
  spec.retry.factor = any(spec.retry.factor);
  spec.retry.jitter = any(spec.retry.jitter);
  spec.keep_payload = any(false);
  spec.tags = *rc::gen::arbitrary<std::vector<std::string>>();
  for (std::size_t left = *rc::gen::inRange<std::size_t>(0, 3); left > 0; --left)
    spec.headers.push_back({any_bytes(), any_bytes()});
  spec.content_hash = any<std::uint64_t>(0);
  return spec;
}

Job any_job() {
  Job job;
  job.spec = any_spec();
  job.state = any_word<JobState>(kJobStates);
  for (std::uint32_t* count :
       {&job.life, &job.retry_count, &job.lost_count, &job.attempt, &job.progress_percent})
    *count = any(*count);
  for (std::uint64_t* number : {&job.epoch, &job.sequence, &job.revision, &job.batch})
    *number = any(*number);
  for (std::int64_t* ms :
       {&job.created_ms, &job.due_ms, &job.started_ms, &job.finished_ms, &job.cancel_requested_ms})
    *ms = any(*ms);
  for (std::string* text : {&job.node,
                            &job.cancel_reason,
                            &job.error_code,
                            &job.error,
                            &job.progress_message,
                            &job.checkpoint,
                            &job.result})
    *text = any_bytes();
  for (std::size_t left = *rc::gen::inRange<std::size_t>(0, 3); left > 0; --left)
    job.attempts.push_back(any_attempt());
  return job;
}

// All that is durable of a job but its payload.
auto durable(const Job& job) {
  const JobSpec& spec = job.spec;
  return std::make_tuple(
      std::tie(spec.id, spec.task, spec.queue, spec.content_type, spec.priority, spec.delay_ms),
      std::tie(spec.run_at_ms, spec.expires_at_ms, spec.timeout_ms, spec.retry, spec.content_hash),
      std::tie(spec.keep_result_ms, spec.keep_payload, spec.tags, spec.headers),
      std::tie(job.state, job.life, job.retry_count, job.lost_count, job.attempt, job.epoch),
      std::tie(job.sequence, job.revision, job.batch, job.node, job.created_ms, job.due_ms),
      std::tie(job.started_ms, job.finished_ms, job.cancel_requested_ms, job.cancel_reason),
      std::tie(job.error_code, job.error, job.progress_percent, job.progress_message),
      std::tie(job.checkpoint, job.result, job.attempts));
}

std::string entry_of(const Job& job, bool has_payload = true) {
  BatchWrites writes;
  writes.jobs.push_back({&job, has_payload});
  return encode_entry(7, 3, writes);
}

// ---------------------------------------------------------------- round trips

TEST(LogEntry, any_job_comes_back_whole_and_its_payload_where_it_was_written) {
  EXPECT_TRUE(rc::check([](bool has_payload) {
    const Job job = any_job();
    const auto entry = decode_entry(entry_of(job, has_payload));
    RC_ASSERT(entry.has_value());
    RC_ASSERT(entry->n == 7U && entry->epoch == 3U && entry->jobs.size() == 1U);
    const ViewRow& row = entry->jobs[0];
    RC_ASSERT(durable(row.job) == durable(job));
    RC_ASSERT(row.has_payload == has_payload);
    RC_ASSERT(row.job.spec.payload == (has_payload ? job.spec.payload : ""));
  }));
}

TEST(LogEntry, a_head_says_the_same_as_its_record_and_leads_to_it) {
  EXPECT_TRUE(rc::check([](bool has_payload) {
    const Job job = any_job();
    const std::string blob = entry_of(job, has_payload);
    const auto heads = read_heads(blob);
    RC_ASSERT(heads.has_value() && heads->jobs.size() == 1U);
    const RecordHead& head = heads->jobs[0];
    RC_ASSERT(head.id == job.id().view() && head.queue == job.spec.queue);
    RC_ASSERT(head.state == job.state && head.life == job.life);
    RC_ASSERT(head.keep_payload == job.spec.keep_payload);
    RC_ASSERT(head.finished_ms == job.finished_ms);
    RC_ASSERT(head.keep_result_ms == job.spec.keep_result_ms);
    RC_ASSERT(head.content_hash == job.spec.content_hash);
    RC_ASSERT(head.has_payload == has_payload);
    RC_ASSERT(head.payload == (has_payload ? job.spec.payload : ""));
    const auto row = decode_record(head.bytes);
    RC_ASSERT(row.has_value() && row->has_payload == has_payload);
    RC_ASSERT(durable(row->job) == durable(job));
  }));
}

TEST(LogEntry, removals_queues_and_the_sequence_come_back_in_order) {
  BatchWrites writes;
  const EndedRecord kept{hash_id("kept"), 1, JobState::completed, 10};
  const EndedRecord gone{hash_id("b"), 2, JobState::failed, 20};
  writes.ended = {kept};
  writes.removed = {{JobId("b"), gone}, {JobId("a"), gone}};
  const QueueRecord paused{"p", true, {1, 2, 3, 4, 5, 6, 7, 8, UINT64_MAX}};
  const QueueRecord plain{"default", false, {}};
  writes.queues = {&paused, &plain};
  writes.next_sequence = UINT64_MAX;
  const std::string blob = encode_entry(UINT64_MAX, 1, writes);
  const auto entry = decode_entry(blob);
  ASSERT_TRUE(entry) << entry.error().detail;
  EXPECT_EQ(entry->n, UINT64_MAX);
  EXPECT_EQ(entry->removed, (std::vector<JobId>{JobId("b"), JobId("a")}));
  EXPECT_EQ(entry->queues, (std::vector<QueueRecord>{paused, plain}));
  EXPECT_EQ(entry->next_sequence, UINT64_MAX);
  std::vector<EndedRecord> ended;
  read_ended(entry->removed_ended, ended);
  EXPECT_EQ(ended, (std::vector<EndedRecord>{kept, gone, gone}));
  const auto heads = read_heads(blob);
  ASSERT_TRUE(heads);
  EXPECT_EQ(heads->removed, (std::vector<std::string_view>{"b", "a"}));
  EXPECT_EQ(heads->queues, entry->queues);
}

// ---------------------------------------------------------------- the format

// Sets one member of a job, of what was asked for, or of its retries.
template <typename Part, typename T, typename Value>
std::function<void(Job&)> set(T Part::*member, Value value) {
  return [=](Job& job) {
    if constexpr (std::is_same_v<Part, Job>)
      job.*member = value;
    else if constexpr (std::is_same_v<Part, JobSpec>)
      job.spec.*member = value;
    else
      job.spec.retry.*member = value;
  };
}

struct NumberedField {
  unsigned number;
  std::function<void(Job&)> change;
};

// The numbers are those of data directories that exist: they never change their meaning.
const std::vector<NumberedField>& numbered_fields() {
  static const std::vector<NumberedField> fields = {
      {1, set(&Job::state, JobState::failed)},
      {2, set(&JobSpec::queue, "x")},
      {3, set(&JobSpec::task, "x")},
      {4, set(&JobSpec::priority, Priority::low)},
      {5, set(&Job::retry_count, 9)},
      {6, set(&RetryPolicy::max_retries, 9)},
      {7, set(&Job::attempt, 9)},
      {8, set(&Job::lost_count, 9)},
      {9, set(&Job::life, 9)},
      {10, set(&Job::epoch, 9)},
      {11, set(&Job::node, "x")},
      {12, set(&Job::created_ms, 9)},
      {13, set(&Job::due_ms, 9)},
      {14, set(&Job::started_ms, 9)},
      {15, set(&Job::finished_ms, 9)},
      {16, set(&Job::cancel_requested_ms, 9)},
      {17, set(&Job::cancel_reason, "x")},
      {18, set(&Job::error_code, "x")},
      {19, set(&Job::error, "x")},
      {20, set(&Job::progress_percent, 9)},
      {21, set(&Job::progress_message, "x")},
      {22, set(&Job::checkpoint, "x")},
      {23, set(&Job::attempts, std::vector<AttemptRecord>(1))},
      {24, set(&Job::revision, 9)},
      {25, set(&Job::batch, 9)},
      {26, set(&Job::sequence, 9)},
      {27, set(&JobSpec::content_type, "x")},
      {28, set(&JobSpec::delay_ms, 9)},
      {29, set(&JobSpec::run_at_ms, 9)},
      {30, set(&JobSpec::expires_at_ms, 9)},
      {31, set(&JobSpec::timeout_ms, 0)},
      {32, set(&RetryPolicy::base_ms, 9)},
      {33, set(&RetryPolicy::factor, 9)},
      {34, set(&RetryPolicy::cap_ms, 9)},
      {35, set(&RetryPolicy::jitter, 0)},
      {36, set(&JobSpec::keep_result_ms, 9)},
      {37, set(&JobSpec::keep_payload, true)},
      {38, set(&JobSpec::tags, Texts{"x"})},
      {39, set(&JobSpec::headers, std::vector<Header>(1))},
      {40, set(&JobSpec::content_hash, 9)},
      {41, set(&Job::result, "x")},
  };
  return fields;
}

std::vector<std::uint64_t> keys_of(std::string_view record) {
  Reader reader(record);
  std::vector<std::uint64_t> keys;
  for (std::uint32_t left = reader.map().value(); left > 0; --left) {
    keys.push_back(reader.unsigned_integer().value());
    (void)reader.skip();
  }
  return keys;
}

TEST(LogEntry, a_field_stands_under_its_number_and_what_has_its_default_is_left_out) {
  for (const auto& [number, change] : numbered_fields()) {
    Job job;
    job.spec.id = JobId("a");
    change(job);
    const std::string blob = entry_of(job, false);
    EXPECT_EQ(keys_of(read_heads(blob)->jobs.at(0).bytes), (std::vector<std::uint64_t>{0, number}));
  }
  Job job;
  job.spec.id = JobId("a");
  const std::string blob = entry_of(job, true);
  EXPECT_EQ(keys_of(read_heads(blob)->jobs.at(0).bytes), (std::vector<std::uint64_t>{0, 99}))
      << "an empty payload is a payload";
}

// An entry by hand: one job, whose record is `job`.
std::string entry_with(const std::function<void(Writer&)>& job) {
  std::string blob;
  Writer writer(blob);
  writer.map(1);
  writer.unsigned_integer(2);
  writer.array(1);
  job(writer);
  return blob;
}

std::string entry_with_field(unsigned number, const std::function<void(Writer&)>& value) {
  return entry_with([&](Writer& writer) {
    writer.map(2);
    writer.unsigned_integer(0);
    writer.str("a");
    writer.unsigned_integer(number);
    value(writer);
  });
}

std::string entry_with_id(std::size_t bytes) {
  return entry_with([bytes](Writer& writer) {
    writer.map(1);
    writer.unsigned_integer(0);
    writer.str(std::string(bytes, 'a'));
  });
}

TEST(LogEntry, readers_pass_over_what_a_later_version_adds) {
  std::string blob;
  Writer writer(blob);
  writer.map(3);
  writer.unsigned_integer(9);
  writer.array(1);
  writer.str("of the entry");
  writer.unsigned_integer(2);
  writer.array(1);
  writer.map(3);
  writer.unsigned_integer(0);
  writer.str("a");
  writer.unsigned_integer(42);
  writer.nil();
  writer.unsigned_integer(99);
  writer.bin("p");
  writer.unsigned_integer(0);
  writer.unsigned_integer(5);
  const auto entry = decode_entry(blob);
  ASSERT_TRUE(entry) << entry.error().detail;
  EXPECT_EQ(entry->n, 5U);
  EXPECT_EQ(entry->jobs.at(0).job.spec.payload, "p");
  EXPECT_EQ(entry->next_sequence, 1U);
  EXPECT_EQ(read_heads(blob)->jobs.at(0).payload, "p");
}

// ---------------------------------------------------------------- what is wrong

TEST(LogEntry, a_value_that_its_field_can_not_have_is_malformed) {
  const auto number = [](std::uint64_t value) {
    return [value](Writer& writer) {
      writer.unsigned_integer(value);
    };
  };
  const std::vector<std::pair<const char*, std::string>> cases = {
      {"state 6", entry_with_field(1, number(6))},
      {"priority 4", entry_with_field(4, number(4))},
      {"a queue that is a number", entry_with_field(2, number(1))},
      {"a life beyond 32 bits", entry_with_field(9, number(1ULL << 32))},
      {"an epoch below zero", entry_with_field(10, [](Writer& out) { out.integer(-1); })},
      {"a time beyond 63 bits", entry_with_field(15, number(1ULL << 63))},
      {"a flag that is a number", entry_with_field(37, number(1))},
      {"a tag that is a number",
       entry_with_field(38,
                        [](Writer& out) {
                          out.array(1);
                          out.unsigned_integer(1);
                        })},
      {"a payload that is text", entry_with_field(99, [](Writer& out) { out.str("p"); })},
      {"a job without an id", entry_with([](Writer& out) { out.map(0); })},
      {"a job that is no map", entry_with([](Writer& out) { out.str("a"); })},
  };
  for (const auto& [what, blob] : cases) {
    const auto entry = decode_entry(blob);
    ASSERT_FALSE(entry) << what;
    EXPECT_EQ(entry.error().code, ErrorCode::malformed) << what;
    EXPECT_EQ(entry.error().where, "log") << what;
  }
  for (const std::size_t bytes : {0U, 1U, 64U, 65U}) {
    const bool is_good = bytes >= 1 && bytes <= 64;
    EXPECT_EQ(decode_entry(entry_with_id(bytes)).has_value(), is_good) << bytes;
    EXPECT_EQ(read_heads(entry_with_id(bytes)).has_value(), is_good) << bytes;
  }
}

TEST(LogEntry, what_is_cut_or_goes_on_behind_its_end_is_malformed) {
  BatchWrites writes;
  Job job;
  job.spec.id = JobId("a");
  job.attempts = {{1, "n@1", 2, 3, AttemptEnd::lost, "c", "e", 4, 5}};
  job.spec.headers = {{"x", "y"}};
  writes.jobs = {{&job, true}};
  writes.removed = {{JobId("b"), {}}};
  const QueueRecord queue{"default", false, {}};
  writes.queues = {&queue};
  const std::string blob = encode_entry(1, 1, writes);
  const std::string record(read_heads(blob)->jobs.at(0).bytes);
  for (std::size_t size = 0; size < blob.size(); ++size)
    EXPECT_FALSE(read_heads(blob.substr(0, size))) << size;
  for (std::size_t size = 0; size < record.size(); ++size)
    EXPECT_FALSE(decode_record(record.substr(0, size))) << size;
  EXPECT_FALSE(decode_entry(blob + "\xc0"));
  EXPECT_FALSE(read_heads(blob + "\xc0"));
  EXPECT_FALSE(decode_record(record + "\xc0"));
}

// A promise of 4 GiB of tags or bytes is garbage too, and takes no memory.
TEST(LogEntry, garbage_is_malformed_and_what_is_read_of_it_is_borrowed_from_it) {
  EXPECT_TRUE(rc::check([] {
    const bool is_noise = *rc::gen::arbitrary<bool>();
    std::string blob = is_noise ? any_bytes() + "." : entry_of(any_job());
    const std::size_t at = *rc::gen::inRange<std::size_t>(0, blob.size());
    if (*rc::gen::arbitrary<bool>())
      blob[at] = *rc::gen::arbitrary<char>();
    else
      blob.replace(at, 5, *rc::gen::elementOf("\xdd\xdf\xc6"s) + "\xff\xff\xff\xff"s);
    if (const auto entry = decode_entry(blob); !entry)
      RC_ASSERT(entry.error().code == ErrorCode::malformed && entry.error().where == "log");
    const auto heads = read_heads(blob);
    if (!heads) return RC_ASSERT(heads.error().code == ErrorCode::malformed);
    const auto is_inside = [&](std::string_view part) {
      return part.data() >= blob.data() && part.data() + part.size() <= blob.data() + blob.size();
    };
    for (const RecordHead& head : heads->jobs)
      RC_ASSERT(is_inside(head.bytes) && is_inside(head.id));
  }));
}

}  // namespace
}  // namespace sluice::broker_log_entry_test
