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

struct DecodedEntry {
  std::uint64_t n = 0;
  std::uint64_t epoch = 0;
  std::vector<ViewRow> jobs;
  std::vector<JobId> removed;
  std::vector<QueueRecord> queues;
  std::uint64_t next_sequence = 1;
};

// Errors: malformed, with the place in words.
[[nodiscard]] Result<DecodedEntry> decode_entry(std::string_view blob);

}  // namespace sluice
