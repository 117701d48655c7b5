#include <algorithm>

#include "broker/store/keys.h"
#include "broker/store/list_cursor.h"
#include "broker/store/memory_store.h"
#include "common/mutant.h"

namespace sluice {

namespace {

constexpr std::size_t kEventsMax = 10'000;
constexpr std::uint64_t kLogStep = 256;

bool is_per_queue(JobState state) {
  return state != JobState::pending && state != JobState::running;
}

}  // namespace

// ---------------------------------------------------------------- sorted sets

void MemoryIndex::add(const std::string& member, double score) {
  const auto [known, is_new] = scores_.try_emplace(member, score);
  if (!is_new) {
    if (known->second == score) return;
    order_.erase({known->second, member});
    known->second = score;
  }
  order_.emplace(score, member);
}

void MemoryIndex::remove(const std::string& member) {
  const auto known = scores_.find(member);
  if (known == scores_.end()) return;
  order_.erase({known->second, member});
  scores_.erase(known);
}

std::optional<double> MemoryIndex::score(const std::string& member) const {
  const auto known = scores_.find(member);
  if (known == scores_.end()) return std::nullopt;
  return known->second;
}

// ---------------------------------------------------------------- the process

void MemoryRedis::flush() {
  MemoryRedis empty;
  empty.run = run;
  empty.durability = durability;
  *this = std::move(empty);
}

void MemoryRedis::roll_back(const MemoryRedis& older) {
  const std::uint64_t next_run = run + 1;
  *this = older;
  run = next_run;
}

// ---------------------------------------------------------------- take_over and commit

TookOver MemoryRedis::take_over(const TakeOver& request, const std::string& owner) {
  const bool is_replaced =
      request.replaced_epoch > 0 && meta.epoch > request.replaced_epoch && meta.owner != owner;
  if (meta.exists && (request.epoch <= meta.epoch || is_replaced)) return {false, meta};
  if (!meta.exists) {
    meta = {};
    if (!log.empty()) meta.last = log.rbegin()->first;
  }
  meta.exists = true;
  meta.layout = keys::kLayout;
  meta.epoch = request.epoch;
  meta.owner = owner;
  meta.last = std::max(meta.last, request.base);
  nodes.clear();
  return {true, meta};
}

CommitReply MemoryRedis::commit(const CommitRequest& request, const std::string& owner) {
  const std::uint64_t n = request.entry->n;
  if (!meta.exists || meta.epoch < request.epoch) return {n, CommitAnswer::rolled_back, 0};
  if (meta.epoch > request.epoch || meta.owner != owner)
    return {n, CommitAnswer::fenced, meta.epoch};
  if (n <= meta.last) return {n, CommitAnswer::already, 0};
  if (n > meta.last + 1) return {n, CommitAnswer::gap, meta.last};
  log.emplace(n, request.entry);
  meta.last = n;
  return {n, CommitAnswer::ok, 0};
}

// ---------------------------------------------------------------- project

ProjectReply MemoryRedis::project(const ProjectRequest& request, const std::string& owner) {
  if (!meta.exists || meta.epoch < request.epoch) return ProjectReply{.rolled_back = true};
  if (meta.epoch > request.epoch || meta.owner != owner) return ProjectReply{.fenced = true};
  ProjectReply reply;
  for (const RetiredJob& retired : request.retired) {
    const auto found = jobs.find(retired.id.str());
    if (found == jobs.end() || found->second.batch != retired.batch) continue;
    remove_job(retired.id.str());
    ++reply.removed;
  }
  for (const ViewRow& row : request.rows)
    write_row(row);
  for (const JobId& id : request.removed)
    remove_job(id.str());
  for (const NodeText& node : request.nodes) {
    if (node.json.empty())
      nodes.erase(node.node);
    else
      nodes[node.node] = node.json;
  }
  for (const std::string& event : request.events)
    events.push_back(event);
  while (events.size() > kEventsMax)
    events.pop_front();
  put_ended(request);
  for (const std::string& queue : request.trim_queues)
    trim_queue(queue, request, reply);
  if (request.checkpoint) write_last(request);
  reply.checkpoint = meta.checkpoint;
  return reply;
}

void MemoryRedis::put_ended(const ProjectRequest& request) {
  if (!request.ended_blob.empty()) {
    ended[request.ended_chunk].append(request.ended_blob);
    if (ended_next == 0 && ended_first == 0) ended_first = request.ended_chunk;
    ended_next = request.ended_chunk + 1;
  }
  for (const std::uint64_t chunk : request.ended_drop) {
    ended.erase(chunk);
    ended_first = chunk + 1;
  }
}

void MemoryRedis::write_last(const ProjectRequest& request) {
  if (*request.checkpoint > meta.checkpoint) {
    meta.checkpoint = *request.checkpoint;
    finished_not_kept += request.finished_not_kept;
  }
  next_sequence = std::max(next_sequence, request.next_sequence);
  view_lag_ms = request.view_lag_ms;
  if (*request.checkpoint == meta.checkpoint)  // else of a call that came late
    for (const QueueRecord& queue : request.queues)
      queues[queue.name] = queue;
  if (meta.checkpoint < log_trimmed + kLogStep) return;
  log.erase(log.begin(), log.upper_bound(meta.checkpoint));
  log_trimmed = meta.checkpoint;
}

void MemoryRedis::write_row(const ViewRow& row) {
  const std::string id = row.job.id().str();
  if (!jobs.contains(id) && row.job.batch <= meta.checkpoint) return;  // removed since
  const auto [place, is_new] = jobs.try_emplace(id);
  Hash& hash = place->second;
  if (!is_new && hash.batch > row.job.batch) return;
  std::string index = keys::index_name(row.job.state, row.job.spec.queue);
  FieldPairs fields = to_fields(row);
  if (!is_new) {
    const std::string old = keys::index_name(hash.state, hash.queue);
    if (old != index && !MUTANT(index_left_behind)) indexes[old].remove(id);
    if (keeps_old_payload(row) && !hash.fields.empty() && hash.fields.back().first == "payload")
      fields.push_back(std::move(hash.fields.back()));
  }
  hash = {row.job.state, row.job.spec.queue, row.job.batch, std::move(fields), std::nullopt};
  indexes[index].add(id, index_score(row.job));
}

void MemoryRedis::remove_log(const std::string& id) {
  const auto found = job_logs.find(id);
  if (found == job_logs.end()) return;
  for (const LogChunk& chunk : found->second.chunks)
    log_bytes -= chunk.bytes.size();
  job_logs.erase(found);
}

void MemoryRedis::remove_job(const std::string& id) {
  remove_log(id);
  const auto place = jobs.find(id);
  if (place == jobs.end()) return;
  indexes[keys::index_name(place->second.state, place->second.queue)].remove(id);
  jobs.erase(place);
}

void MemoryRedis::trim_queue(const std::string& queue,
                             const ProjectRequest& request,
                             ProjectReply& reply) {
  for (const JobState state : {JobState::completed, JobState::failed, JobState::cancelled}) {
    const auto found = indexes.find(keys::index_name(state, queue));
    if (found == indexes.end()) continue;
    const Retention& retention = request.retention;
    trim_index(found->second,
               state == JobState::failed ? retention.failed_keep_ms : retention.keep_ms,
               request,
               reply);
  }
}

// Looks at the kTrimMax oldest: too old, or more than keep_count that may be counted (a score in
// the future is a job whose result was asked to be kept). What ended long ago is told, not removed.
void MemoryRedis::trim_index(MemoryIndex& index,
                             std::int64_t keep_ms,
                             const ProjectRequest& request,
                             ProjectReply& reply) {
  const auto now = static_cast<double>(request.wall_ms);
  const auto cutoff = static_cast<double>(request.wall_ms - keep_ms);
  const std::size_t future = static_cast<std::size_t>(
      std::distance(index.entries().upper_bound({now, std::string(kIdBytesMax, '\x7f')}),
                    index.entries().end()));
  const std::size_t counted = index.entries().size() - future;
  const std::size_t excess =
      counted > request.retention.keep_count ? counted - request.retention.keep_count : 0;
  std::vector<std::string> doomed;
  std::size_t rank = 0;
  for (const auto& [score, id] : index.entries()) {
    if (rank >= kTrimMax || (rank >= excess && score > cutoff)) break;
    ++rank;
    const Hash& hash = jobs.at(id);
    if (hash.batch > request.trim_before_batch) continue;
    const auto job = from_fields(id, hash.fields);
    const bool is_old =
        job && job->finished_ms > 0 && job->finished_ms < request.wall_ms - kEndedFreshMs;
    if (is_old && reply.to_retire.size() >= kRetireMax) break;
    if (is_old)
      reply.to_retire.push_back({job->id(), hash.batch, ended_record(*job)});
    else
      doomed.push_back(id);
  }
  for (const std::string& id : doomed) {
    jobs.erase(id);
    remove_log(id);
    index.remove(id);
  }
  reply.removed += doomed.size();
}

// ---------------------------------------------------------------- reads

void MemoryRedis::read_view(Snapshot& snapshot) const {
  const auto read_index = [&](const std::string& name) {
    const auto index = indexes.find(name);
    if (index == indexes.end()) return;
    for (const auto& [score, id] : index->second.entries())
      if (auto job = from_fields(id, jobs.at(id).fields)) snapshot.jobs.push_back(std::move(*job));
  };
  const auto has_jobs = [&](const std::string& name) {
    const auto index = indexes.find(name);
    return index != indexes.end() && !index->second.entries().empty();
  };
  read_index(keys::index_name(JobState::pending, {}));
  read_index(keys::index_name(JobState::running, {}));
  for (const auto& [name, queue] : queues) {
    snapshot.queues.push_back(queue);
    read_index(keys::index_name(JobState::queued, name));
    for (const JobState state : {JobState::completed, JobState::failed, JobState::cancelled})
      snapshot.has_cold_jobs |= has_jobs(keys::index_name(state, name));
  }
}

FetchedJobs MemoryRedis::fetch(const FetchJobs& request) const {
  FetchedJobs fetched;
  fetched.token = request.token;
  fetched.batch = meta.checkpoint;
  fetched.epoch = meta.epoch;
  for (const JobId& id : request.ids) {
    const auto found = jobs.find(id.str());
    if (found == jobs.end()) continue;
    if (auto job = from_fields(id.view(), found->second.fields))
      fetched.jobs.push_back(std::move(*job));
  }
  return fetched;
}

FetchedList MemoryRedis::list(const FetchList& request) const {
  FetchedList fetched;
  fetched.token = request.token;
  const Filter& filter = request.filter;
  const auto after = filter.cursor.empty() ? ListCursor{} : parse_list_cursor(filter.cursor);
  if (!after) {
    fetched.error = Error{ErrorCode::bad_field, "cursor", "not a cursor of an earlier answer"};
    return fetched;
  }
  fetched.batch = meta.checkpoint;
  const JobState state = filter.state.value_or(JobState::queued);
  std::vector<std::string> names;
  if (!is_per_queue(state))
    names.emplace_back();
  else if (!filter.queue.empty())
    names.push_back(filter.queue);
  else
    for (const auto& [name, queue] : queues)
      names.push_back(name);

  std::size_t seen = 0;
  ListCursor last;
  for (const std::string& name : names) {
    if (name < after->queue) continue;
    const auto index = indexes.find(keys::index_name(state, name));
    if (index == indexes.end()) continue;
    const bool is_middle = !filter.cursor.empty() && name == after->queue;
    const auto& entries = index->second.entries();
    auto entry = is_middle ? entries.upper_bound({after->score, after->id}) : entries.begin();
    for (; entry != entries.end(); ++entry) {
      if (seen == filter.limit) {
        fetched.cursor = to_text(last);
        return fetched;
      }
      ++seen;
      last = {name, entry->first, entry->second};
      auto job = from_fields(entry->second, jobs.at(entry->second).fields);
      if (!job || !matches(filter, *job)) continue;
      job->spec.payload.clear();
      job->is_payload_lost = false;
      job->result.clear();
      fetched.jobs.push_back(std::move(*job));
    }
  }
  return fetched;
}

LogRead MemoryRedis::read_log(const ReadLog& request) const {
  LogRead read;
  for (auto entry = log.lower_bound(request.from);
       entry != log.end() && entry->first <= request.to && read.entries.size() < kLogPage;
       ++entry)
    read.entries.push_back(entry->second);
  return read;
}

// ---------------------------------------------------------------- logs of jobs

AddedToLogs MemoryRedis::add_to_logs(const AddToLogs& request, const std::string& owner) {
  AddedToLogs added;
  added.is_taken = meta.exists && meta.epoch == request.epoch && meta.owner == owner;
  if (!added.is_taken) return added;
  for (const AddedLog& one : *request.added) {
    if (log_bytes + one.chunk.bytes.size() > request.bytes_max) {
      added.ends.push_back(0);
      continue;
    }
    JobLog& kept = job_logs[one.id.str()];
    log_bytes += one.chunk.bytes.size();
    kept.chunks.push_back(one.chunk);
    kept.chunks.back().offset = kept.size;
    kept.size += one.chunk.bytes.size();
    const auto is_surplus = [&](const LogChunk& chunk) {
      return kept.size > kLogKeptBytes &&
             chunk.offset + chunk.bytes.size() <= kept.size - kLogKeptBytes + kLogChunkBytesMax;
    };
    while (is_surplus(kept.chunks.front()) || kept.chunks.size() > kLogChunksKept) {
      log_bytes -= kept.chunks.front().bytes.size();
      kept.chunks.pop_front();
    }
    added.ends.push_back(kept.size);
  }
  return added;
}

FetchedJobLog MemoryRedis::read_job_log(const FetchJobLog& request) const {
  FetchedJobLog fetched;
  fetched.token = request.token;
  const auto found = job_logs.find(request.id.str());
  if (found == job_logs.end()) return fetched;
  fetched.size = found->second.size;
  std::size_t bytes = 0;
  for (const LogChunk& chunk : found->second.chunks) {
    if (chunk.offset + chunk.bytes.size() <= request.from) continue;
    bytes += chunk.bytes.size();
    if (bytes > kLogPageBytes || fetched.chunks.size() >= kLogPageChunks) break;
    fetched.chunks.push_back(chunk);
  }
  return fetched;
}

// ---------------------------------------------------------------- audit

std::string MemoryRedis::audit() const {
  std::size_t entries = 0;
  for (const auto& [name, index] : indexes)
    entries += index.entries().size();
  if (entries != jobs.size())
    return std::to_string(jobs.size()) + " jobs, " + std::to_string(entries) + " index entries";
  for (const auto& [id, hash] : jobs) {
    if (!hash.audited_score) {
      const auto job = from_fields(id, hash.fields);
      if (!job) return id + ": " + job.error().where + " " + job.error().detail;
      if (job->state != hash.state || job->spec.queue != hash.queue)
        return id + ": its fields have another state or queue than it was written with";
      hash.audited_score = index_score(*job);
    }
    const auto index = indexes.find(keys::index_name(hash.state, hash.queue));
    if (index == indexes.end() || index->second.score(id) != hash.audited_score)
      return id + ": not in the index of its state";
  }
  return {};
}

}  // namespace sluice
