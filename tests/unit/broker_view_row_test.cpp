#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "broker/store/view_row.h"

namespace sluice::broker_view_row_test {
namespace {

using namespace std::string_literals;
using Texts = std::vector<std::string>;
using Headers = std::vector<Header>;
using Attempts = std::vector<AttemptRecord>;

Job job_in(JobState state) {
  Job job;
  job.spec.id = JobId("a");
  job.spec.task = "t";
  job.state = state;
  return job;
}

const std::string* find(const FieldPairs& fields, const std::string& name) {
  const auto found = std::find_if(fields.begin(), fields.end(), [&](const auto& field) {
    return field.first == name;
  });
  return found == fields.end() ? nullptr : &found->second;
}

FieldPairs without(FieldPairs fields, const std::string& name) {
  std::erase_if(fields, [&](const auto& field) { return field.first == name; });
  return fields;
}

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

struct NamedField {
  const char* name;
  std::string text;
  std::function<void(Job&)> change;
};

// People and their scripts read these names and words: KEYS.md, "job:<id>".
const std::vector<NamedField>& named_fields() {
  static const std::vector<NamedField> fields = {
      {"state", "cancelled", set(&Job::state, JobState::cancelled)},
      {"queue", "q", set(&JobSpec::queue, "q")},
      {"task", "resize", set(&JobSpec::task, "resize")},
      {"priority", "critical", set(&JobSpec::priority, Priority::critical)},
      {"retry_count", "4294967295", set(&Job::retry_count, UINT32_MAX)},
      {"max_retries", "0", set(&RetryPolicy::max_retries, 0)},
      {"attempt", "9", set(&Job::attempt, 9)},
      {"lost_count", "2", set(&Job::lost_count, 2)},
      {"life", "3", set(&Job::life, 3)},
      {"epoch", "18446744073709551615", set(&Job::epoch, UINT64_MAX)},
      {"node", "n@1", set(&Job::node, "n@1")},
      {"created_ms", "1700000000000", set(&Job::created_ms, 1'700'000'000'000)},
      {"due_ms", "5", set(&Job::due_ms, 5)},
      {"started_ms", "6", set(&Job::started_ms, 6)},
      {"finished_ms", "7", set(&Job::finished_ms, 7)},
      {"cancel_requested_ms", "8", set(&Job::cancel_requested_ms, 8)},
      {"cancel_reason", "why", set(&Job::cancel_reason, "why")},
      {"error_code", "http_503", set(&Job::error_code, "http_503")},
      {"error", "it\nbroke", set(&Job::error, "it\nbroke")},
      {"progress", "49", set(&Job::progress_percent, 49)},
      {"progress_message", "half", set(&Job::progress_message, "half")},
      {"checkpoint", "\0\xff"s, set(&Job::checkpoint, "\0\xff"s)},
      {"attempts",
       R"([{"attempt":4,"node":"n@1","started_ms":5,"ended_ms":6,"outcome":"timed_out",)"
       R"("error_code":"c","error":"e","cpu_ms":7,"rss_bytes_max":8}])",
       set(&Job::attempts, Attempts{{4, "n@1", 5, 6, AttemptEnd::timed_out, "c", "e", 7, 8}})},
      {"revision", "10", set(&Job::revision, 10)},
      {"batch", "11", set(&Job::batch, 11)},
      {"sequence", "12", set(&Job::sequence, 12)},
      {"content_type", "text/plain", set(&JobSpec::content_type, "text/plain")},
      {"delay_ms", "13", set(&JobSpec::delay_ms, 13)},
      {"run_at_ms", "14", set(&JobSpec::run_at_ms, 14)},
      {"expires_at_ms", "15", set(&JobSpec::expires_at_ms, 15)},
      {"timeout_ms", "0", set(&JobSpec::timeout_ms, 0)},
      {"backoff_base_ms", "16", set(&RetryPolicy::base_ms, 16)},
      {"backoff_factor", "1.6", set(&RetryPolicy::factor, 1.6)},
      {"backoff_cap_ms", "17", set(&RetryPolicy::cap_ms, 17)},
      {"backoff_jitter", "0.1", set(&RetryPolicy::jitter, 0.1)},
      {"keep_result_ms", "18", set(&JobSpec::keep_result_ms, 18)},
      {"keep_payload", "1", set(&JobSpec::keep_payload, true)},
      {"tags", R"(["a","b \"c\""])", set(&JobSpec::tags, Texts{"a", "b \"c\""})},
      {"headers", R"([["k","v"]])", set(&JobSpec::headers, Headers{{"k", "v"}})},
      {"content_hash", "19", set(&JobSpec::content_hash, 19)},
      {"result", "\0\xff"s, set(&Job::result, "\0\xff"s)},
  };
  return fields;
}

TEST(ViewRow, every_field_has_its_name_and_its_words_and_is_read_back) {
  for (const auto& [name, text, change] : named_fields()) {
    Job job = job_in(JobState::queued);
    change(job);
    const FieldPairs fields = to_fields({job, false});
    const std::string* written = find(fields, name);
    ASSERT_NE(written, nullptr) << name;
    EXPECT_EQ(*written, text) << name;
    const auto read = from_fields("a", fields);
    ASSERT_TRUE(read) << name << ": " << read.error().where;
    EXPECT_EQ(to_fields({*read, false}), fields) << name;
  }
}

TEST(ViewRow, what_people_look_for_always_stands_there_and_is_missed_by_its_name) {
  const FieldPairs fields = to_fields({job_in(JobState::queued), false});
  std::string names;
  for (const auto& [name, text] : fields) {
    names += " " + name;
    const auto read = from_fields("a", without(fields, name));
    ASSERT_FALSE(read) << name;
    EXPECT_EQ(read.error().code, ErrorCode::malformed);
    EXPECT_EQ(read.error().where, name);
  }
  EXPECT_EQ(names,
            " state queue task priority retry_count max_retries attempt created_ms revision batch");
  EXPECT_EQ(from_fields("", fields).error().where, "id");
  EXPECT_TRUE(from_fields(std::string(kIdBytesMax, 'x'), fields));
  EXPECT_EQ(from_fields(std::string(kIdBytesMax + 1, 'x'), fields).error().where, "id");
}

TEST(ViewRow, a_value_that_is_none_of_its_field_is_malformed_and_the_field_is_named) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"state", "Queued"},
      {"state", ""},
      {"priority", "urgent"},
      {"attempt", "-1"},
      {"attempt", "4294967296"},
      {"attempt", "1.0"},
      {"created_ms", ""},
      {"created_ms", "9223372036854775808"},
      {"epoch", "1 "},
      {"backoff_factor", "two"},
      {"keep_payload", "yes"},
      {"tags", "a"},
      {"tags", "{}"},
      {"tags", "[1]"},
      {"headers", R"({"k":"v"})"},
      {"headers", R"([["k"]])"},
      {"headers", R"([["k","v","w"]])"},
      {"headers", R"([["k",1]])"},
      {"attempts", "{}"},
      {"attempts", "[1]"},
      {"attempts", R"([{"attempt":"1"}])"},
      {"attempts", R"([{"attempt":1.5}])"},
      {"attempts", R"([{"node":1}])"},
      {"attempts", R"([{"outcome":"won"}])"},
      {"attempts", R"([{"attempt":1})"},
  };
  const FieldPairs fields = to_fields({job_in(JobState::queued), false});
  for (const auto& [name, text] : cases) {
    FieldPairs wrong = without(fields, name);
    wrong.emplace_back(name, text);
    const auto read = from_fields("a", wrong);
    ASSERT_FALSE(read) << name << "=" << text;
    EXPECT_EQ(read.error().where, name) << text;
  }
  FieldPairs later = fields;
  later.emplace_back("of_a_later_version", "?");
  EXPECT_TRUE(from_fields("a", later)) << "a field of nobody's is passed over";
}

TEST(ViewRow, tags_headers_and_attempts_take_any_text) {
  EXPECT_TRUE(rc::check([] {
    const auto text = [] {
      const std::vector<std::string> parts =
          {"a", "\"", "\\", "\n", "\x01", "[", "ä", "€", "😀", ""};
      std::string all;
      for (const auto& part :
           *rc::gen::container<std::vector<std::string>>(rc::gen::elementOf(parts)))
        all += part;
      return all;
    };
    Job job = job_in(JobState::failed);
    job.spec.tags = {text(), text()};
    job.spec.headers = {{text(), text()}};
    job.attempts = {{1, text(), 2, 3, AttemptEnd::lost, text(), text(), -4, 5}};
    const auto read = from_fields("a", to_fields({job, false}));
    RC_ASSERT(read.has_value());
    RC_ASSERT(read->spec.tags == job.spec.tags);
    RC_ASSERT(read->spec.headers == job.spec.headers);
    RC_ASSERT(read->attempts == job.attempts);
  }));
}

// A completed job needs its payload no more, unless it was asked to keep it.
TEST(ViewRow, the_payload_goes_with_completion_and_is_missed_of_any_other) {
  for (std::size_t i = 0; i < kJobStates; ++i)
    for (const bool keep : {false, true}) {
      Job job = job_in(static_cast<JobState>(i));
      job.spec.keep_payload = keep;
      job.spec.payload = "\0p"s;
      const bool loses = job.state == JobState::completed && !keep;
      const std::string what = std::string(to_string(job.state)) + (keep ? ", kept" : "");
      const FieldPairs with = to_fields({job, true});
      EXPECT_EQ(find(with, "payload") == nullptr, loses) << what;
      EXPECT_FALSE(keeps_old_payload({job, true})) << what << ": it is written over";
      EXPECT_EQ(from_fields("a", with)->spec.payload, loses ? ""s : "\0p"s) << what;
      EXPECT_FALSE(from_fields("a", with)->is_payload_lost) << what;
      const FieldPairs bare = to_fields({job, false});
      EXPECT_EQ(find(bare, "payload"), nullptr) << what;
      EXPECT_EQ(keeps_old_payload({job, false}), !loses) << what;
      EXPECT_EQ(from_fields("a", bare)->is_payload_lost, !loses) << what;
    }
}

TEST(ViewRow, the_place_in_an_index_is_by_what_its_state_waits_for) {
  Job job = job_in(JobState::pending);
  job.due_ms = 1'700'000'000'001;
  job.started_ms = 1'700'000'000'002;
  job.finished_ms = 1'700'000'000'003;
  job.spec.keep_result_ms = 1000;
  job.sequence = 5;
  const auto score_in = [&](JobState state) {
    job.state = state;
    return index_score(job);
  };
  EXPECT_EQ(score_in(JobState::pending), 1'700'000'000'001.0);
  EXPECT_EQ(score_in(JobState::running), 1'700'000'000'002.0);
  for (const JobState state : {JobState::completed, JobState::failed, JobState::cancelled})
    EXPECT_EQ(score_in(state), 1'700'000'001'003.0);
  constexpr double kStep = 2251799813685248.0;  // 2^51
  const std::vector<Priority> best_first = {Priority::critical,
                                            Priority::high,
                                            Priority::normal,
                                            Priority::low};
  for (std::size_t i = 0; i < best_first.size(); ++i) {
    job.spec.priority = best_first[i];
    EXPECT_EQ(score_in(JobState::queued), static_cast<double>(i) * kStep + 5);
  }
}

// KEYS.md, "ended:<chunk>".
TEST(ViewRow, an_ended_record_is_32_bytes_little_endian) {
  std::string blob = "before";
  append_ended(blob, {{0x0102030405060708, 0x1112131415161718}, 0x21, JobState::failed, 0x10});
  EXPECT_EQ(blob,
            "before"
            "\x08\x07\x06\x05\x04\x03\x02\x01\x18\x17\x16\x15\x14\x13\x12\x11"
            "\x21\0\0\0\0\0\0\0\x84\0\0\0\0\0\0\0"s);
  Job job = job_in(JobState::cancelled);
  job.spec.content_hash = 7;
  job.finished_ms = 9;
  EXPECT_EQ(ended_record(job), (EndedRecord{hash_id("a"), 7, JobState::cancelled, 9}));
}

TEST(ViewRow, an_ended_record_has_the_minutes_until_its_removal_rounded_up) {
  const auto removed_ms_after = [](std::int64_t ms) {
    std::string blob;
    append_ended(blob, {{1, 2}, 3, JobState::completed, 1000, 1000 + ms});
    std::vector<EndedRecord> read;
    read_ended(blob, read);
    return read.at(0).removed_ms - 1000;
  };
  EXPECT_EQ(removed_ms_after(60'000), 60'000);
  EXPECT_EQ(removed_ms_after(60'001), 120'000);
  EXPECT_EQ(removed_ms_after(-5), -1000) << "0: with its end";
  EXPECT_EQ(removed_ms_after(1LL << 40), 1LL << 40) << "34 years: only the removal is told";
}

TEST(ViewRow, a_record_of_no_end_is_passed_over) {
  std::string blob;
  for (const unsigned state : {2U, 3U, 6U, 7U, 5U})
    append_ended(blob, {{state, 0}, 0, static_cast<JobState>(state), 1});
  std::vector<EndedRecord> read;
  read_ended(blob, read);
  EXPECT_EQ(read,
            (std::vector<EndedRecord>{{{3, 0}, 0, JobState::completed, 1},
                                      {{5, 0}, 0, JobState::cancelled, 1}}));
}

TEST(ViewRow, ended_records_come_back_in_order_and_a_cut_one_is_left_out) {
  EXPECT_TRUE(rc::check([] {
    std::vector<EndedRecord> records;
    std::string blob;
    for (std::size_t left = *rc::gen::inRange<std::size_t>(0, 5); left > 0; --left) {
      records.push_back(
          {{*rc::gen::arbitrary<std::uint64_t>(), *rc::gen::arbitrary<std::uint64_t>()},
           *rc::gen::arbitrary<std::uint64_t>(),
           *rc::gen::elementOf(
               std::vector<JobState>{JobState::completed, JobState::failed, JobState::cancelled}),
           *rc::gen::inRange<std::int64_t>(0, 1LL << 42)});
      if (const int minutes = *rc::gen::inRange(0, 1 << 19); minutes > 0)
        records.back().removed_ms = records.back().finished_ms + minutes * 60'000LL;
      append_ended(blob, records.back());
    }
    const std::vector<EndedRecord> before = {{{1, 2}, 3, JobState::failed, 4}};
    std::vector<EndedRecord> read = before;
    read_ended(blob, read);
    RC_ASSERT(read.size() == 1 + records.size());
    RC_ASSERT(read.front() == before.front());
    RC_ASSERT(std::equal(records.begin(), records.end(), read.begin() + 1));
    if (records.empty()) return;
    blob.resize(blob.size() - *rc::gen::inRange<std::size_t>(1, 32));
    read.clear();
    read_ended(blob, read);
    records.pop_back();
    RC_ASSERT(read == records);
  }));
}

}  // namespace
}  // namespace sluice::broker_view_row_test
