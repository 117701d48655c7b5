// The durable fields of a job, once: number in the log, name in the view, member. The log entry
// (log_entry.cpp) and the hash (view_row.cpp) are both made from this table. Numbers ascend, are
// never used twice, and never change their meaning; a new field gets a new number.
#pragma once

#include <string_view>

#include "common/job.h"

namespace sluice {

// Marks members that hold bytes rather than text.
template <typename String>
struct Bytes {
  String& value;
};

// Calls visit(number, name, is_always, member of each job...): with one job for reading, with a job
// and a default one for writing, so that what is as it was made is left out. `is_always` fields
// stand in the view even so. The payload is not among them: it comes and goes apart (number 99).
template <typename Visit, typename... Jobs>
void visit_job(Visit& visit, Jobs&... jobs) {
  visit(1, "state", true, jobs.state...);
  visit(2, "queue", true, jobs.spec.queue...);
  visit(3, "task", true, jobs.spec.task...);
  visit(4, "priority", true, jobs.spec.priority...);
  visit(5, "retry_count", true, jobs.retry_count...);
  visit(6, "max_retries", true, jobs.spec.retry.max_retries...);
  visit(7, "attempt", true, jobs.attempt...);
  visit(8, "lost_count", false, jobs.lost_count...);
  visit(9, "life", false, jobs.life...);
  visit(10, "epoch", false, jobs.epoch...);
  visit(11, "node", false, jobs.node...);
  visit(12, "created_ms", true, jobs.created_ms...);
  visit(13, "due_ms", false, jobs.due_ms...);
  visit(14, "started_ms", false, jobs.started_ms...);
  visit(15, "finished_ms", false, jobs.finished_ms...);
  visit(16, "cancel_requested_ms", false, jobs.cancel_requested_ms...);
  visit(17, "cancel_reason", false, jobs.cancel_reason...);
  visit(18, "error_code", false, jobs.error_code...);
  visit(19, "error", false, jobs.error...);
  visit(20, "progress", false, jobs.progress_percent...);
  visit(21, "progress_message", false, jobs.progress_message...);
  visit(22, "checkpoint", false, Bytes{jobs.checkpoint}...);
  visit(23, "attempts", false, jobs.attempts...);
  visit(24, "revision", true, jobs.revision...);
  visit(25, "batch", true, jobs.batch...);
  visit(26, "sequence", false, jobs.sequence...);
  visit(27, "content_type", false, jobs.spec.content_type...);
  visit(28, "delay_ms", false, jobs.spec.delay_ms...);
  visit(29, "run_at_ms", false, jobs.spec.run_at_ms...);
  visit(30, "expires_at_ms", false, jobs.spec.expires_at_ms...);
  visit(31, "timeout_ms", false, jobs.spec.timeout_ms...);
  visit(32, "backoff_base_ms", false, jobs.spec.retry.base_ms...);
  visit(33, "backoff_factor", false, jobs.spec.retry.factor...);
  visit(34, "backoff_cap_ms", false, jobs.spec.retry.cap_ms...);
  visit(35, "backoff_jitter", false, jobs.spec.retry.jitter...);
  visit(36, "keep_result_ms", false, jobs.spec.keep_result_ms...);
  visit(37, "keep_payload", false, jobs.spec.keep_payload...);
  visit(38, "tags", false, jobs.spec.tags...);
  visit(39, "headers", false, jobs.spec.headers...);
  visit(40, "content_hash", false, jobs.spec.content_hash...);
  visit(41, "result", false, Bytes{jobs.result}...);
}

inline constexpr unsigned kPayloadNumber = 99;

// The few of them that a RecordHead has, under the same numbers.
template <typename Visit, typename Head>
void visit_head(Visit& visit, Head& head) {
  visit(1, "state", true, head.state);
  visit(2, "queue", true, head.queue);
  visit(9, "life", false, head.life);
  visit(15, "finished_ms", false, head.finished_ms);
  visit(36, "keep_result_ms", false, head.keep_result_ms);
  visit(37, "keep_payload", false, head.keep_payload);
  visit(40, "content_hash", false, head.content_hash);
}

template <typename Visit, typename... Records>
void visit_attempt(Visit& visit, Records&... records) {
  visit(1, "attempt", true, records.attempt...);
  visit(2, "node", true, records.node...);
  visit(3, "started_ms", true, records.started_ms...);
  visit(4, "ended_ms", true, records.ended_ms...);
  visit(5, "outcome", true, records.end...);
  visit(6, "error_code", false, records.error_code...);
  visit(7, "error", false, records.error...);
  visit(8, "cpu_ms", false, records.cpu_ms...);
  visit(9, "rss_bytes_max", false, records.rss_bytes_max...);
}

// Calls visit(number, name, total).
template <typename Visit, typename Totals>
void visit_totals(Visit&& visit, Totals& totals) {
  visit(1, "submitted", totals.submitted);
  visit(2, "completed", totals.completed);
  visit(3, "failed", totals.failed);
  visit(4, "cancelled", totals.cancelled);
  visit(5, "retried", totals.retried);
  visit(6, "lost", totals.lost);
  visit(7, "handed_back", totals.handed_back);
  visit(8, "timed_out", totals.timed_out);
  visit(9, "expired", totals.expired);
}

}  // namespace sluice
