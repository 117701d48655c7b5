// A job as its hash in the view: fields in words, both ways, and its place in the index of its
// state. KEYS.md, "job:<id>".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/core/records.h"
#include "broker/store/store.h"
#include "common/job.h"
#include "common/result.h"

namespace sluice {

using FieldPairs = std::vector<std::pair<std::string, std::string>>;

// Every field that stands in the hash; with "payload" where the row carries it and it is to be
// kept.
[[nodiscard]] FieldPairs to_fields(const ViewRow& row);

// Errors: malformed, with the field.
[[nodiscard]] Result<Job> from_fields(std::string_view id, const FieldPairs& fields);

// What happens to the payload that the hash has: "keep" or "drop" (also when it is overwritten).
[[nodiscard]] bool keeps_old_payload(const ViewRow& row);

// The place in its index: KEYS.md, "Scores".
[[nodiscard]] double index_score(const Job& job);

// Whether a job is meant by a filter's fields (its state comes from the index).
[[nodiscard]] bool matches(const Filter& filter, const Job& job);

// One record of `ended:<chunk>`, 32 bytes; and back, in order. A cut tail is left out.
void append_ended(std::string& blob, const EndedRecord& record);
[[nodiscard]] EndedRecord ended_record(const Job& job);
void read_ended(std::string_view blob, std::vector<EndedRecord>& records);

}  // namespace sluice
