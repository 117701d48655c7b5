// What is only read: jobs, waits for them, and the figures for people.
#include <algorithm>

#include "broker/core/core.h"
#include "common/protocol/codec.h"

namespace sluice {

namespace {

constexpr std::size_t kAnswerBytesMax = kMessageBytesMax - kIdsPerRequestMax * (kIdBytesMax + 128);

JobView view_of(const Job& job) {
  return {.id = job.id(), .job = job, .state = job.state, .finished_ms = job.finished_ms};
}

}  // namespace

// ---------------------------------------------------------------- get, wait, list

// What memory knows of an id, when it need not be fetched.
JobView BrokerCore::known_view(const JobId& id) const {
  if (const auto slot = jobs_.find(id)) return view_of(jobs_.at(*slot).job);
  JobView view;
  view.id = id;
  if (const Ended* ended = ended_.find(id)) {
    view.is_result_gone = true;
    view.state = ended->state;
    view.finished_ms = ended->finished_ms;
  } else {
    view.is_not_found = true;
  }
  return view;
}

void BrokerCore::on_get(RequestReceived& event,
                        const Get& get,
                        const Context& context,
                        Output& out) {
  std::vector<JobId> cold;
  for (const JobId& id : get.ids)
    if (may_be_cold(id, context)) cold.push_back(id);
  if (!cold.empty()) return park(event, std::move(cold), context, out);
  Jobs answer;
  std::size_t bytes = 0;
  std::uint64_t newest = 0;
  for (const JobId& id : get.ids) {
    JobView view = known_view(id);
    newest = std::max(newest, batch_of(id));
    bytes += view.job ? job_view_bytes_bound(*view.job) : kIdBytesMax + 64;
    if (bytes > kAnswerBytesMax && !answer.jobs.empty()) {
      answer.more.push_back(id);
    } else {
      answer.jobs.push_back(std::move(view));
    }
  }
  reply(context.peer, context.req, std::move(answer), out);
  out.replies.back().tells_of_batch = newest;
}

// A log stands in Redis only. What its job is now is told with it: when that has ended here, all
// that it ever wrote was sent to Redis before, and is read.
void BrokerCore::on_logs(RequestReceived& event,
                         const Logs& logs,
                         const Context& context,
                         Output& out) {
  if (may_be_cold(logs.id, context)) return park(event, {logs.id}, context, out);
  const auto slot = jobs_.find(logs.id);
  if (!slot) {
    const char* detail = ended_.find(logs.id) != nullptr
                             ? "the job has ended and was removed, and its log with it"
                             : "no such job";
    return refuse(context.peer, context.req, {ErrorCode::not_found, "id", detail}, out);
  }
  const std::uint64_t token = next_token_++;
  out.fetches.emplace_back(FetchJobLog{token, logs.id, logs.from});
  Parked parked{std::move(event), {}, {}, jobs_.at(*slot).job.state};
  parked_.emplace(token, std::move(parked));
  ++counters_.fetches;
}

// The batch of what known_view() says of a job; UINT64_MAX = not written yet.
std::uint64_t BrokerCore::batch_of(const JobId& id) const {
  if (const auto slot = jobs_.find(id))
    return jobs_.at(*slot).is_dirty ? UINT64_MAX : jobs_.at(*slot).job.batch;
  const auto deleted = deleted_.find(id);
  return deleted == deleted_.end() ? 0 : deleted->second;
}

// An end of time that tells of no end says that these jobs are there.
void BrokerCore::tell_unfinished(ReplySend& send) const {
  const auto* waited = std::get_if<Waited>(&send.reply.body);
  if (waited == nullptr || !send.tells_of_batch) return;
  for (const JobId& id : waited->unfinished)
    send.tells_of_batch = std::max(*send.tells_of_batch, batch_of(id));
}

// Adds an id to a wait: ended already, or to be waited for. Ids named twice count once.
void BrokerCore::add_waited(const JobId& id, Waits::Opening& opening) {
  const auto is_it = [&](const JobId& other) {
    return other == id;
  };
  if (std::any_of(opening.ids.begin(), opening.ids.end(), is_it)) return;
  const auto slot = jobs_.find(id);
  if (slot && !is_ended(jobs_.at(*slot).job.state)) {
    jobs_.at(*slot).has_waiters = true;
    opening.ids.push_back(id);
  } else {
    opening.ended.push_back(known_view(id));
  }
}

void BrokerCore::on_wait(
    RequestReceived& event, const Wait& wait, const Context& context, Now now, Output& out) {
  std::vector<JobId> cold;
  for (const JobId& id : wait.ids)
    if (may_be_cold(id, context)) cold.push_back(id);
  if (!cold.empty()) return park(event, std::move(cold), context, out);
  if (!waits_.has_room(wait.ids.size()))
    return refuse(context.peer,
                  context.req,
                  {ErrorCode::retry_later, "ids", "too many jobs are being waited for"},
                  out);
  Waits::Opening opening{.peer = context.peer,
                         .req = context.req,
                         .ids = {},
                         .ended = {},
                         .results = {}};
  opening.deadline_ms = after(now.mono_ms, wait.timeout_ms);
  for (const JobId& id : wait.ids)
    add_waited(id, opening);
  waits_.open(std::move(opening));
}

void BrokerCore::on_list(RequestReceived& event, const List& list, Output& out) {
  const std::uint64_t token = next_token_++;
  out.fetches.emplace_back(FetchList{token, list.filter});
  parked_.emplace(token, Parked{std::move(event), {}, {}});
  ++counters_.fetches;
}

// ---------------------------------------------------------------- figures

QueuesInfo BrokerCore::queues_info(Now now) {
  QueuesInfo info;
  for (QueueIndex index = 0; index < queues_.queue_count(); ++index) {
    const QueueEntry& queue = queues_.entry(index);
    const QueueTotals& totals = queue.record.totals;
    QueueInfo row;
    row.queue = queue.record.name;
    row.paused = queue.record.is_paused;
    row.pending = queue.pending;
    row.queued = queue.queued;
    row.running = queue.running;
    row.completed = totals.completed;
    row.failed = totals.failed;
    row.cancelled = totals.cancelled;
    row.submitted = totals.submitted;
    row.retried = totals.retried;
    row.lost = totals.lost;
    for (const LineIndex line : queue.lines)
      if (const LineHead* head = queues_.head(line))
        row.oldest_queued_ms =
            std::max(row.oldest_queued_ms, now.wall_ms - jobs_.at(head->slot).job.due_ms);
    if (!queue.completed_marks.empty()) {
      const auto& [then_ms, then] = queue.completed_marks.front();
      if (now.mono_ms > then_ms)
        row.completed_per_s = 1000.0 * static_cast<double>(totals.completed - then) /
                              static_cast<double>(now.mono_ms - then_ms);
    }
    info.queues.push_back(std::move(row));
  }
  return info;
}

WorkersInfo BrokerCore::workers_info(Now now) const {
  WorkersInfo info;
  for (const NodeIndex index : nodes_.used()) {
    info.workers.push_back(node_info(index, now));
  }
  return info;
}

NodeInfo BrokerCore::node_info(NodeIndex index, Now now) const {
  const Node& node = nodes_.at(index);
  NodeInfo row;
  row.node = node.id;
  row.concurrency = node.concurrency;
  row.running = node.busy();
  row.free = node.free();
  row.tasks = node.tasks;
  row.queues = node.queues;
  row.labels = node.labels;
  row.draining = node.is_draining;
  row.version = node.version;
  row.last_seen_ms = std::max<std::int64_t>(0, core_ms(now) - node.last_seen_ms);
  row.completed = node.completed;
  row.failed = node.failed;
  row.isolates = node.isolates;
  return row;
}

StatsInfo BrokerCore::stats_info(Now now) const {
  QueueTotals sum;
  std::uint64_t pending = 0, queued = 0, running = 0, slots = 0, busy = 0;
  for (QueueIndex index = 0; index < queues_.queue_count(); ++index) {
    const QueueEntry& queue = queues_.entry(index);
    const QueueTotals& totals = queue.record.totals;
    pending += queue.pending;
    queued += queue.queued;
    running += queue.running;
    sum.submitted += totals.submitted;
    sum.completed += totals.completed;
    sum.failed += totals.failed;
    sum.cancelled += totals.cancelled;
    sum.retried += totals.retried;
    sum.lost += totals.lost;
    sum.handed_back += totals.handed_back;
    sum.timed_out += totals.timed_out;
    sum.expired += totals.expired;
  }
  for (const NodeIndex index : nodes_.used()) {
    slots += nodes_.at(index).concurrency;
    busy += nodes_.at(index).busy();
  }
  StatsInfo info;
  info.numbers = {{"submitted", sum.submitted},
                  {"completed", sum.completed},
                  {"failed", sum.failed},
                  {"cancelled", sum.cancelled},
                  {"retried", sum.retried},
                  {"lost", sum.lost},
                  {"handed_back", sum.handed_back},
                  {"timed_out", sum.timed_out},
                  {"expired", sum.expired},
                  {"pending", pending},
                  {"queued", queued},
                  {"running", running},
                  {"nodes", nodes_.used().size()},
                  {"slots", slots},
                  {"slots_busy", busy},
                  {"epoch", epoch_},
                  {"duplicates", counters_.duplicates},
                  {"conflicts", counters_.conflicts},
                  {"rejected", counters_.rejected},
                  {"stale_results", counters_.stale_results},
                  {"claimed", counters_.claimed},
                  {"jobs_in_memory", jobs_.size()},
                  {"memory_bytes", jobs_.memory_bytes()},
                  {"ended_remembered", ended_.size()},
                  {"ended_covers_ms", static_cast<std::uint64_t>(ended_.covers_ms(now.wall_ms))},
                  {"waits", waits_.count()}};
  info.texts = {{"version", config_.version},
                {"store", is_store_down_ ? "down" : "ok"},
                {"durable", std::string(to_string(config_.durability))}};
  if (is_store_down_) info.texts.emplace_back("store_reason", store_down_reason_);
  if (config_.is_insecure) info.texts.emplace_back("insecure", "yes");
  return info;
}

}  // namespace sluice
