// The bytes of a log entry: what one batch changed. msgpack, written and read here only; the format
// is in KEYS.md ("log"). Jobs are whole but for the payload, which stands only where `has_payload`
// says so.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "broker/store/store.h"
#include "common/job.h"
#include "common/result.h"

namespace sluice {

// Encodes without a copy of the jobs. Every job's `batch` is already `n`.
[[nodiscard]] std::string encode_entry(std::uint64_t n,
                                       std::uint64_t epoch,
                                       const BatchWrites& writes);

template <typename Job, typename Id>
struct Entry {
  std::uint64_t n = 0;
  std::uint64_t epoch = 0;
  std::vector<Job> jobs;
  std::vector<Id> removed;
  // For the ended memory (append_ended): the records of those, and what is written again.
  std::string removed_ended;
  std::vector<QueueRecord> queues;
  std::uint64_t next_sequence = 1;
};

// What is to be known of a job's record without reading it whole. Everything is borrowed from the
// entry's bytes.
struct RecordHead {
  std::string_view bytes{};  // of the record, for decode_record()
  std::string_view id{};
  std::string_view queue = "default";
  std::string_view payload{};
  JobState state = JobState::pending;
  std::uint32_t life = 1;
  bool keep_payload = false;
  bool has_payload = false;
  std::int64_t finished_ms = 0;
  std::int64_t keep_result_ms = 0;
  std::uint64_t content_hash = 0;
};

using DecodedEntry = Entry<ViewRow, JobId>;
using EntryHeads = Entry<RecordHead, std::string_view>;

// Errors: malformed, with the place in words.
[[nodiscard]] Result<DecodedEntry> decode_entry(std::string_view blob);
// The same, of every job only its head: about a tenth of the work, and no copy.
[[nodiscard]] Result<EntryHeads> read_heads(std::string_view blob);
[[nodiscard]] Result<ViewRow> decode_record(std::string_view bytes);

}  // namespace sluice
