#include "broker/core/waits.h"

#include <algorithm>

#include "common/protocol/codec.h"

namespace sluice {

namespace {

// What one answer may hold, with room for its envelope and the ids of `more`.
constexpr std::size_t kAnswerBytesMax = kMessageBytesMax - kIdsPerRequestMax * (kIdBytesMax + 128);

std::size_t bytes_of(const JobView& view) {
  return view.job ? job_view_bytes_bound(*view.job) : kIdBytesMax + 64;
}

}  // namespace

void Waits::open(Opening&& opening) {
  const WaitId id = next_id_++;
  Op op{.opening = std::move(opening), .fresh = {}, .more = {}, .fresh_bytes = 0, .waiting = 0};
  op.waiting = op.opening.ids.size();
  waited_ids_ += op.waiting;
  for (const JobId& job : op.opening.ids)
    by_job_[job].push_back(id);
  for (const JobView& view : op.opening.ended)
    add_fresh(op, view);
  op.opening.ended.clear();
  deadlines_.emplace(op.opening.deadline_ms, id);
  ops_.emplace(id, std::move(op));
  touched_.insert(id);
}

void Waits::ended(const JobView& view) {
  const auto found = by_job_.find(view.id);
  if (found == by_job_.end()) return;
  for (const WaitId id : found->second) {
    Op& op = ops_.at(id);
    --op.waiting;
    --waited_ids_;
    std::erase(op.opening.ids, view.id);
    add_fresh(op, view);
    touched_.insert(id);
  }
  by_job_.erase(found);
}

void Waits::add_fresh(Op& op, const JobView& view) {
  const std::size_t bytes = bytes_of(view);
  if (op.fresh_bytes + bytes > kAnswerBytesMax || fresh_bytes_ + bytes > kFreshBytesMax) {
    op.more.push_back(view.id);
    return;
  }
  op.fresh_bytes += bytes;
  fresh_bytes_ += bytes;
  op.fresh.push_back(view);
}

void Waits::settle(std::int64_t mono_ms, Output& out) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= mono_ms) {
    touched_.insert(deadlines_.begin()->second);
    deadlines_.erase(deadlines_.begin());
  }
  for (const WaitId id : touched_) {
    const auto found = ops_.find(id);
    if (found == ops_.end()) continue;
    Op& op = found->second;
    const bool is_over = op.waiting == 0 || op.opening.deadline_ms <= mono_ms;
    if (!op.opening.peer.has_delimiter) say_finished(op, out);
    if (is_over) close(id, op, out);
  }
  touched_.clear();
}

void Waits::say_finished(Op& op, Output& out) {
  if (op.fresh.empty() && op.more.empty()) return;
  op.has_said = true;
  out.replies.push_back(
      {op.opening.peer, Reply{op.opening.req, Finished{std::move(op.fresh), std::move(op.more)}}});
  op.fresh.clear();
  op.more.clear();
  fresh_bytes_ -= std::exchange(op.fresh_bytes, 0);
}

void Waits::close(WaitId id, Op& op, Output& out) {
  for (const JobId& job : op.opening.ids) {
    const auto found = by_job_.find(job);
    if (found == by_job_.end()) continue;
    std::erase(found->second, id);
    if (found->second.empty()) by_job_.erase(found);
  }
  waited_ids_ -= op.waiting;
  fresh_bytes_ -= op.fresh_bytes;
  deadlines_.erase({op.opening.deadline_ms, id});
  Waited waited;
  waited.results = std::move(op.opening.results);
  waited.jobs = std::move(op.fresh);
  waited.more = std::move(op.more);
  waited.unfinished = std::move(op.opening.ids);
  if (op.opening.is_submit) waited.durable = op.opening.durability;
  const bool tells_nothing = waited.results.empty() && waited.jobs.empty() && waited.more.empty() &&
                             !op.opening.is_submit && !op.has_said;
  out.replies.push_back({op.opening.peer, Reply{std::move(op.opening.req), std::move(waited)}});
  if (tells_nothing) out.replies.back().tells_of_batch = 0;  // an outage holds it up for nothing
  ops_.erase(id);
}

}  // namespace sluice
