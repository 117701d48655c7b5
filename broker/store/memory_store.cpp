#include "broker/store/memory_store.h"

#include <algorithm>

#include "broker/store/keys.h"
#include "broker/store/replay.h"
#include "common/check.h"
#include "common/mutant.h"

namespace sluice {

Result<Opened> MemoryStore::open(std::string owner,
                                 std::uint64_t epoch_min,
                                 const OpenProgress& progress) {
  if (!is_connected_)
    return fail(ErrorCode::store_unavailable, "redis", "the connection is closed");
  if (!refusing_.empty()) return fail(ErrorCode::store_unavailable, "redis", refusing_);
  owner_ = std::move(owner);
  MemoryRedis& redis = *redis_;
  const std::uint64_t epoch_before = redis.meta.epoch;
  const auto took = redis.take_over({.epoch = std::max(redis.meta.epoch + 1, epoch_min)}, owner_);
  CHECK(took.taken);
  if (MUTANT(epoch_not_raised) && epoch_before > 0) redis.meta.epoch = epoch_before;
  Opened opened;
  opened.run_id = redis.run_id();
  opened.durability = redis.durability;
  opened.replaced_epoch = epoch_before;
  opened.snapshot.epoch = redis.meta.epoch;
  opened.snapshot.last = took.meta.last;
  opened.snapshot.checkpoint = took.meta.checkpoint;
  opened.snapshot.next_sequence = redis.next_sequence;
  for (auto entry = redis.log.upper_bound(took.meta.checkpoint); entry != redis.log.end(); ++entry)
    opened.unprojected.push_back(entry->second);
  redis.read_view(opened.snapshot);
  if (!opened.snapshot.jobs.empty() && !progress(opened.snapshot.jobs.size()))
    return fail(ErrorCode::store_unavailable, "redis", "reading was given up");
  opened.ended_chunk_first = redis.ended_first;
  opened.ended_chunk_next = redis.ended_next;
  for (const auto& [chunk, blob] : redis.ended)
    if (chunk >= redis.ended_first && chunk < redis.ended_next)
      read_ended(blob, opened.snapshot.ended);
  const auto error = replay_log(opened, [&](const JobId& id) -> std::optional<std::string> {
    const auto found = redis.jobs.find(id.str());
    if (found == redis.jobs.end()) return std::nullopt;
    for (const auto& [name, text] : found->second.fields)
      if (name == "payload") return text;
    return std::nullopt;
  });
  if (error) return tl::unexpected(*error);
  say_health();
  return opened;
}

void MemoryStore::send(StoreRequest request) {
  if (!is_connected_) return;  // StoreDisconnected stands for its answer
  if (is_held_ || !held_.empty())
    held_.push_back(std::move(request));
  else
    replies_.push_back(run(request));
}

void MemoryStore::execute(bool loses_reply) {
  if (held_.empty()) return;
  StoreReply reply = run(held_.front());
  held_.pop_front();
  if (!loses_reply) replies_.push_back(std::move(reply));
}

void MemoryStore::receive(std::vector<StoreReply>& replies) {
  for (StoreReply& reply : replies_)
    replies.push_back(std::move(reply));
  replies_.clear();
}

void MemoryStore::disconnect(std::string reason) {
  if (!is_connected_) return;
  is_connected_ = false;
  held_.clear();
  replies_.clear();
  replies_.emplace_back(StoreDisconnected{std::move(reason)});
}

void MemoryStore::connect() {
  if (is_connected_) return;
  is_connected_ = true;
  replies_.emplace_back(StoreConnected{redis_->run_id(), redis_->meta});
}

void MemoryStore::say_health() {
  replies_.emplace_back(StoreHealth{redis_->is_full, redis_->durability, {}, redis_->meta.epoch});
}

StoreReply MemoryStore::run(const StoreRequest& request) {
  if (!refusing_.empty()) return refused(request, refusing_);
  MemoryRedis& redis = *redis_;
  if (const auto* commit = std::get_if<CommitRequest>(&request))
    return redis.commit(*commit, owner_);
  if (const auto* project = std::get_if<ProjectRequest>(&request))
    return redis.project(*project, owner_);
  if (const auto* jobs = std::get_if<FetchJobs>(&request)) return redis.fetch(*jobs);
  if (const auto* list = std::get_if<FetchList>(&request)) return redis.list(*list);
  if (const auto* read = std::get_if<ReadLog>(&request)) return redis.read_log(*read);
  if (const auto* log = std::get_if<FetchJobLog>(&request)) return redis.read_job_log(*log);
  if (const auto* logs = std::get_if<AddToLogs>(&request)) return redis.add_to_logs(*logs, owner_);
  return redis.take_over(std::get<TakeOver>(request), owner_);
}

StoreRefused MemoryStore::refused(const StoreRequest& request, std::string reason) {
  using What = StoreRefused::What;
  if (const auto* commit = std::get_if<CommitRequest>(&request))
    return {What::commit, commit->entry->n, std::move(reason)};
  if (const auto* jobs = std::get_if<FetchJobs>(&request))
    return {What::fetch, jobs->token, std::move(reason)};
  if (const auto* list = std::get_if<FetchList>(&request))
    return {What::fetch, list->token, std::move(reason)};
  if (const auto* log = std::get_if<FetchJobLog>(&request))
    return {What::fetch, log->token, std::move(reason)};
  if (std::holds_alternative<AddToLogs>(request)) return {What::logs, 0, std::move(reason)};
  if (std::holds_alternative<ReadLog>(request)) return {What::read_log, 0, std::move(reason)};
  const bool is_project = std::holds_alternative<ProjectRequest>(request);
  return {is_project ? What::project : What::take_over, 0, std::move(reason)};
}

}  // namespace sluice
