#include "broker/core/job_table.h"

#include <algorithm>

#include "common/check.h"

namespace sluice {

namespace {

std::uint32_t bytes_of(const Job& job) {
  std::size_t bytes = sizeof(LiveJob) + sizeof(JobId) + 16;  // the slot and its index entry
  bytes += job.spec.payload.capacity() + job.result.capacity() + job.error.capacity();
  bytes += job.checkpoint.capacity() + job.attempts.capacity() * sizeof(AttemptRecord);
  for (const auto& attempt : job.attempts)
    bytes += attempt.error.size() + attempt.node.size();
  for (const auto& tag : job.spec.tags)
    bytes += sizeof(std::string) + tag.size();
  for (const auto& header : job.spec.headers)
    bytes += sizeof(Header) + header.name.size() + header.value.size();
  return static_cast<std::uint32_t>(bytes);
}

// Frees what is large; insert() overwrites the rest.
void release(LiveJob& live) {
  free_memory(live.job.spec.payload);
  free_memory(live.job.result);
  live.job.attempts.clear();
}

}  // namespace

std::optional<JobSlot> JobTable::find(const JobId& id) const {
  const auto found = index_.find(id);
  if (found == index_.end()) return std::nullopt;
  return found->second;
}

JobSlot JobTable::insert(Job job) {
  JobSlot slot = 0;
  if (free_.empty()) {
    slot = static_cast<JobSlot>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  const bool is_new = index_.insert({job.id(), slot}).second;
  CHECK(is_new);
  LiveJob& live = slots_[slot];
  live.job = std::move(job);
  live.run_n = 0;
  live.node = kNoNode;
  live.is_used = true;
  live.is_dirty = live.needs_payload_write = live.is_cold = live.has_waiters = false;
  live.mark = 0;
  account(slot);
  return slot;
}

void JobTable::erase(JobSlot slot) {
  LiveJob& live = slots_[slot];
  CHECK(live.is_used);
  index_.erase(live.job.id());
  memory_bytes_ -= live.memory_bytes;
  live.memory_bytes = 0;
  live.is_used = false;
  erased_.push_back(slot);
}

void JobTable::recycle() {
  for (const JobSlot slot : erased_) {
    release(slots_[slot]);
    free_.push_back(slot);
  }
  erased_.clear();
}

void JobTable::account(JobSlot slot) {
  LiveJob& live = slots_[slot];
  memory_bytes_ -= live.memory_bytes;
  live.memory_bytes = bytes_of(live.job);
  memory_bytes_ += live.memory_bytes;
}

void EndedMemory::remember(const EndedRecord& record) {
  const auto known = map_.find(record.id);
  const bool is_known_longer = known != map_.end() &&
                               known->second.finished_ms == record.finished_ms &&
                               known->second.since_ms >= record.since_ms();
  if (is_known_longer) return;
  map_.insert_or_assign(
      record.id,
      Ended{record.content_hash, record.state, record.finished_ms, record.since_ms()});
  order_.push_back({record.id, record.since_ms()});
}

void EndedMemory::forget(const JobId& id) {
  map_.erase(hash_id(id.view()));
}

const Ended* EndedMemory::find(const JobId& id) const {
  const auto found = map_.find(hash_id(id.view()));
  return found == map_.end() ? nullptr : &found->second;
}

std::deque<EndedRecord> EndedMemory::records() const {
  std::deque<EndedRecord> records;
  for (const Queued& queued : order_) {
    const auto found = map_.find(queued.id);
    if (found == map_.end() || found->second.since_ms != queued.since_ms) continue;
    const Ended& ended = found->second;
    const std::int64_t removed_ms = ended.since_ms == ended.finished_ms ? 0 : ended.since_ms;
    records.push_back({queued.id, ended.content_hash, ended.state, ended.finished_ms, removed_ms});
  }
  return records;
}

bool EndedMemory::trim(std::int64_t wall_ms) {
  bool dropped = false;
  while (!order_.empty()) {
    const Queued& oldest = order_.front();
    const bool is_within_count = map_.size() <= count_max_ && order_.size() <= 2 * count_max_;
    if (is_within_count && oldest.since_ms + kEndedKeepMs > wall_ms) break;
    // A job that was removed after its end, or ended again (after an operator's retry), stands
    // further back as well; then the map has the newer record, and this entry is only its shadow.
    const auto found = map_.find(oldest.id);
    if (found != map_.end() && found->second.since_ms == oldest.since_ms) map_.erase(found);
    order_.pop_front();
    dropped = true;
  }
  return dropped;
}

std::int64_t EndedMemory::covers_ms(std::int64_t wall_ms) const {
  if (order_.empty()) return kEndedKeepMs;
  return std::max<std::int64_t>(0, wall_ms - order_.front().since_ms);  // a start rounds up
}

}  // namespace sluice
