// Jobs and the log entries that changed them.
#pragma once

#include <memory>
#include <string_view>

#include "broker/core/records.h"
#include "broker/store/log_entry.h"

namespace sluice::test {

inline Job job_of(std::string_view id, JobState state, std::uint64_t batch) {
  Job job;
  job.spec.id = JobId(id);
  job.spec.payload = "payload of " + job.spec.id.str();
  job.state = state;
  job.batch = batch;
  return job;
}

inline LogEntryPtr entry_of(std::uint64_t n, const BatchWrites& writes) {
  return std::make_shared<const LogEntry>(LogEntry{n, encode_entry(n, 1, writes)});
}

// The entry that changed this job.
inline LogEntryPtr entry_of(const Job& job, bool has_payload) {
  BatchWrites writes;
  writes.jobs.push_back({&job, has_payload});
  return entry_of(job.batch, writes);
}

}  // namespace sluice::test
