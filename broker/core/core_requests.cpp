// What producers and people ask: where each request goes, and those that change something.
#include <algorithm>
#include <type_traits>

#include "broker/core/core.h"
#include "common/mutant.h"
#include "common/protocol/codec.h"
#include "common/refusal.h"

namespace sluice {

namespace {

constexpr std::int64_t kRetryAfterMs = 1000;
static_assert(kQueuesMax == 10'000 && kLinesMax == 20'000, "as the refusals say");
constexpr const char* kTooManyQueues =
    "a broker knows 10 000 queues at most, and forgets none: use tags for what there are many of";

// Most likely a typing error, which "done" would hide. A pause makes its queue: it may be meant for
// jobs that are still to come.
Error no_such_queue(const std::string& name, const QueueTable& queues) {
  constexpr QueueIndex kNamed = 10;
  std::string known;
  for (QueueIndex index = 0; index < std::min<std::size_t>(kNamed, queues.queue_count()); ++index)
    known += (index == 0 ? "" : ", ") + queues.entry(index).record.name;
  if (queues.queue_count() > kNamed)
    known += " and " + std::to_string(queues.queue_count() - kNamed) + " more";
  return {ErrorCode::not_found,
          "queue",
          "no job was ever in '" + name + "'; the queues are: " + (known.empty() ? "none" : known)};
}

// Whether a request changes something, or is read in the view, and so needs the store.
bool needs_store(const RequestBody& body) {
  return std::holds_alternative<Submit>(body) || std::holds_alternative<Cancel>(body) ||
         std::holds_alternative<Retry>(body) || std::holds_alternative<Delete>(body) ||
         std::holds_alternative<Pause>(body) || std::holds_alternative<Resume>(body) ||
         std::holds_alternative<Purge>(body) || std::holds_alternative<List>(body) ||
         std::holds_alternative<Logs>(body);
}

}  // namespace

void BrokerCore::reply(
    const Peer& peer, const Req& req, ReplyBody body, Output& out, bool is_immediate) {
  out.replies.push_back({peer, Reply{req, std::move(body)}, is_immediate});
}

// A message that is sent again for want of an answer may bring jobs of which the first one's fate
// is still open.
Error BrokerCore::store_is_away(const RequestBody& body) const {
  const auto is_known = [&](const auto& submitted) {
    const auto* job = std::get_if<JobSpec>(&submitted);
    return job != nullptr && jobs_.find(job->id).has_value();
  };
  const auto* submit = std::get_if<Submit>(&body);
  const bool is_again = submit != nullptr && std::ranges::any_of(submit->jobs, is_known);
  const char* then = "; nothing was changed, send it again";
  if (is_again)
    then = "; some of these jobs came with an earlier message: send them again with their ids";
  else if (!needs_store(body) || std::holds_alternative<List>(body) ||
           std::holds_alternative<Logs>(body))
    then = "; ask again";
  return {ErrorCode::store_unavailable, "", store_down_reason_ + then};
}

void BrokerCore::refuse(const Peer& peer, const Req& req, Error error, Output& out) {
  ErrorReply body;
  body.retryable = is_retryable(error.code);
  if (body.retryable) body.retry_after_ms = kRetryAfterMs;
  body.error = std::move(error);
  reply(peer, req, std::move(body), out, true);
}

void BrokerCore::on_request(
    RequestReceived& event, const FetchedIds* fetched, std::string cursor, Now now, Output& out) {
  const Peer peer = event.peer;
  const Req req = event.request.req;
  const Context context{peer, req, fetched, std::move(cursor)};
  // What it has it says, as `get` does; a submit that is no more than that changes nothing.
  const auto only_asks = [&] {
    const auto* submit = std::get_if<Submit>(&event.request.body);
    return submit != nullptr && !submit->wait && !has_new_job(*submit);
  };
  if (is_store_down_ && needs_store(event.request.body) && !only_asks())
    return refuse(peer, req, store_is_away(event.request.body), out);
  std::visit(
      [&](auto& body) {
        using Body = std::decay_t<decltype(body)>;
        if constexpr (std::is_same_v<Body, Submit>) {
          on_submit(event, body, context, now, out);
        } else if constexpr (std::is_same_v<Body, Get>) {
          on_get(event, body, context, out);
        } else if constexpr (std::is_same_v<Body, Wait>) {
          on_wait(event, body, context, now, out);
        } else if constexpr (std::is_same_v<Body, Cancel> || std::is_same_v<Body, Retry> ||
                             std::is_same_v<Body, Delete>) {
          on_targets(event, body, context, now, out);
        } else if constexpr (std::is_same_v<Body, List>) {
          on_list(event, body, out);
        } else if constexpr (std::is_same_v<Body, Logs>) {
          on_logs(event, body, context, out);
        } else if constexpr (std::is_same_v<Body, Queues>) {
          reply(peer, req, queues_info(now), out, true);
        } else if constexpr (std::is_same_v<Body, Workers>) {
          reply(peer, req, workers_info(now), out, true);
        } else if constexpr (std::is_same_v<Body, Stats>) {
          reply(peer, req, stats_info(now), out, true);
        } else if constexpr (std::is_same_v<Body, Pause>) {
          on_pause(body.queue, true, context, out);
        } else if constexpr (std::is_same_v<Body, Resume>) {
          if (queues_.find(body.queue) == nullptr)
            return refuse(peer, req, no_such_queue(body.queue, queues_), out);
          on_pause(body.queue, false, context, out);
        } else if constexpr (std::is_same_v<Body, Purge>) {
          if (queues_.find(body.queue) == nullptr)
            return refuse(peer, req, no_such_queue(body.queue, queues_), out);
          purges_.push_back({peer, req, body.queue, now.wall_ms, 0, 0});
        } else if constexpr (std::is_same_v<Body, Drain>) {
          on_wish(body.node, DrainWish{}, context, out);
        } else if constexpr (std::is_same_v<Body, SetConcurrency>) {
          on_wish(body.node, ConcurrencyWish{body.concurrency}, context, out);
        } else {
          static_assert(std::is_same_v<Body, Ping>);
          Pong pong;
          pong.version = config_.version;
          pong.epoch = epoch_;
          pong.durable = config_.durability;
          pong.store = is_store_down_ ? "down" : "ok";
          pong.insecure = config_.is_insecure;
          reply(peer, req, pong, out, true);
        }
      },
      event.request.body);
}

// ---------------------------------------------------------------- submit

bool BrokerCore::is_memory_full() const {
  return jobs_.memory_bytes() >= config_.memory_max_bytes && !MUTANT(ignores_memory_max);
}

std::optional<Error> BrokerCore::refuse_submit() const {
  if (is_stopping_)
    return Error{ErrorCode::draining, "", "the broker is stopping; send it again when it is back"};
  if (is_store_full_)
    return Error{ErrorCode::store_full,
                 "",
                 "Redis is above 85 % of its maxmemory; remove finished jobs or give it more"};
  if (is_memory_full())
    return Error{ErrorCode::retry_later,
                 "",
                 "the broker's memory for jobs (memory_max) is used up; it goes on when jobs have "
                 "ended: start workers, or give it more"};
  return std::nullopt;
}

bool BrokerCore::has_new_job(const Submit& submit) const {
  return std::ranges::any_of(submit.jobs, [&](const auto& entry) {
    const auto* spec = std::get_if<JobSpec>(&entry);
    return spec != nullptr && !jobs_.find(spec->id) && ended_.find(spec->id) == nullptr;
  });
}

void BrokerCore::on_submit(
    RequestReceived& event, Submit& submit, const Context& context, Now now, Output& out) {
  // What is full takes nothing in, and still says what it has.
  if (auto refusal = refuse_submit(); refusal && (is_stopping_ || has_new_job(submit)))
    return refuse(context.peer, context.req, std::move(*refusal), out);
  if (submit.wait && !waits_.has_room(submit.jobs.size()))
    return refuse(context.peer,
                  context.req,
                  {ErrorCode::retry_later, "wait", "too many jobs are being waited for"},
                  out);
  if (has_cold_jobs_ && context.fetched == nullptr) {
    std::vector<JobId> unknown;
    for (const auto& entry : submit.jobs) {
      const auto* spec = std::get_if<JobSpec>(&entry);
      if (spec != nullptr && !jobs_.find(spec->id) && ended_.find(spec->id) == nullptr)
        unknown.push_back(spec->id);
    }
    if (!unknown.empty()) return park(event, std::move(unknown), context, out);
  }
  Submitted answer;
  answer.durable = config_.durability;
  answer.results.reserve(submit.jobs.size());
  for (std::size_t index = 0; index < submit.jobs.size(); ++index) {
    auto& entry = submit.jobs[index];
    if (auto* rejected = std::get_if<RejectedJob>(&entry)) {
      ++counters_.rejected;
      answer.results.push_back(
          {rejected->id, SubmitStatus::rejected, std::nullopt, rejected->error});
    } else {
      answer.results.push_back(submit_one(std::move(std::get<JobSpec>(entry)), now, out));
      // Named by its place in the message, as the codec's refusals are.
      if (auto& error = answer.results.back().error)
        error->where = "jobs[" + std::to_string(index) + "]." + error->where;
    }
  }
  if (!submit.wait) {
    const auto newest = is_store_down_ ? std::optional(newest_batch(answer)) : std::nullopt;
    reply(context.peer, context.req, std::move(answer), out);
    out.replies.back().tells_of_batch = newest;
    return;
  }

  Waits::Opening opening{.peer = context.peer,
                         .req = context.req,
                         .ids = {},
                         .ended = {},
                         .results = {}};
  opening.deadline_ms = after(now.mono_ms, kWaitMaxMs);
  opening.is_submit = true;
  opening.durability = config_.durability;
  for (const SubmitResult& result : answer.results) {
    if (result.status != SubmitStatus::accepted && result.status != SubmitStatus::duplicate)
      continue;
    add_waited(JobId(result.id), opening);
  }
  if (context.peer.has_delimiter) {
    opening.results = std::move(answer.results);
  } else {
    answer.open = true;
    reply(context.peer, context.req, std::move(answer), out);
  }
  waits_.open(std::move(opening));
}

// Of the jobs that it tells of.
std::uint64_t BrokerCore::newest_batch(const Submitted& answer) const {
  std::uint64_t newest = 0;
  for (const SubmitResult& result : answer.results)
    if (result.status != SubmitStatus::rejected)
      newest = std::max(newest, batch_of(JobId(result.id)));
  return newest;
}

// Whether the id is taken, by a job in memory or by one that has ended and left.
std::optional<SubmitResult> BrokerCore::known_submit(const JobSpec& spec) const {
  std::uint64_t content_hash = 0;
  JobState state = JobState::pending;
  if (const auto slot = jobs_.find(spec.id)) {
    content_hash = jobs_.at(*slot).job.spec.content_hash;
    state = jobs_.at(*slot).job.state;
  } else if (const Ended* ended = ended_.find(spec.id)) {
    content_hash = ended->content_hash;
    state = ended->state;
  } else {
    return std::nullopt;
  }
  if (content_hash == spec.content_hash || MUTANT(ignores_content))
    return SubmitResult{spec.id.str(), SubmitStatus::duplicate, state, {}};
  return SubmitResult{
      spec.id.str(),
      SubmitStatus::conflict,
      state,
      Error{ErrorCode::conflict, "id", "a job with this id and other content exists"}};
}

SubmitResult BrokerCore::submit_one(JobSpec&& spec, Now now, Output& out) {
  if (auto known = known_submit(spec)) {
    ++(known->status == SubmitStatus::duplicate ? counters_.duplicates : counters_.conflicts);
    return std::move(*known);
  }
  const auto rejected = [&](ErrorCode code, const char* field, const char* detail) {
    ++counters_.rejected;
    return SubmitResult{spec.id.str(),
                        SubmitStatus::rejected,
                        std::nullopt,
                        Error{code, field, detail}};
  };
  if (spec.run_at_ms > now.wall_ms + kTenYearsMs)
    return rejected(ErrorCode::bad_field, "run_at_ms", "more than ten years ahead");
  if (spec.expires_at_ms > now.wall_ms + kTenYearsMs)
    return rejected(ErrorCode::bad_field, "expires_at_ms", "more than ten years ahead");
  if (!queues_.has_room_for(spec.queue))
    return rejected(ErrorCode::bad_field, "queue", kTooManyQueues);
  if (!queues_.has_room_for(spec.queue, spec.task))
    return rejected(ErrorCode::bad_field,
                    "task",
                    "a broker knows 20 000 pairs of queue and task at most, and forgets none");
  if (config_.queue_max > 0) {
    const QueueEntry* queue = queues_.find(spec.queue);
    if (queue != nullptr && queue->pending + queue->queued >= config_.queue_max)
      return rejected(ErrorCode::queue_full,
                      "queue",
                      "the queue holds as many waiting jobs as it may");
  }
  std::string id = spec.id.str();
  const JobSlot slot = add_job(std::move(spec), now, out);
  return {std::move(id), SubmitStatus::accepted, jobs_.at(slot).job.state, {}};
}

// ---------------------------------------------------------------- cancel, retry, delete

template <typename Operation>
void BrokerCore::on_targets(
    RequestReceived& event, Operation& operation, const Context& context, Now now, Output& out) {
  if (operation.targets.filter) {
    const std::uint64_t token = next_token_++;
    out.fetches.emplace_back(FetchList{token, *operation.targets.filter});
    parked_.emplace(token, Parked{std::move(event), {}, {}});
    ++counters_.fetches;
    return;
  }
  std::vector<JobId> cold;
  for (const JobId& id : operation.targets.ids)
    if (may_be_cold(id, context)) cold.push_back(id);
  if (!cold.empty()) return park(event, std::move(cold), context, out);
  TargetsDone answer;
  answer.op = std::is_same_v<Operation, Cancel>  ? "cancelled"
              : std::is_same_v<Operation, Retry> ? "retried"
                                                 : "deleted";
  for (const JobId& id : operation.targets.ids)
    answer.results.push_back(apply(operation, id, now, out));
  tell_operation(answer, out);
  answer.cursor = context.cursor;
  reply(context.peer, context.req, std::move(answer), out);
}

// Ended jobs that a person started anew or took away. (A cancel is what any producer does.)
void BrokerCore::tell_operation(const TargetsDone& answer, Output& out) {
  if (answer.op == "cancelled") return;
  std::uint64_t count = 0;
  for (const TargetResult& result : answer.results)
    if (result.status == answer.op) ++count;
  using Kind = OperatorFact::Kind;
  if (count > 0)
    out.facts.push_back(
        OperatorFact{answer.op == "retried" ? Kind::jobs_retried : Kind::jobs_deleted, {}, count});
}

template void BrokerCore::on_targets(RequestReceived&, Cancel&, const Context&, Now, Output&);
template void BrokerCore::on_targets(RequestReceived&, Retry&, const Context&, Now, Output&);
template void BrokerCore::on_targets(RequestReceived&, Delete&, const Context&, Now, Output&);

TargetResult BrokerCore::apply(const Cancel& cancel, const JobId& id, Now now, Output& out) {
  const auto slot = jobs_.find(id);
  if (!slot) return gone(id);
  LiveJob& live = jobs_.at(*slot);
  Job& job = live.job;
  if (job.state == JobState::cancelled) return {id, "cancelled", job.state};
  if (is_ended(job.state)) return {id, "too_late", job.state};
  if (job.cancel_requested_ms == 0) {
    job.cancel_requested_ms = now.wall_ms;
    job.cancel_reason = cancel.reason;
    mark_dirty(*slot);
  }
  if (job.state != JobState::running) {
    end_job(*slot, JobState::cancelled, now, out);
    return {id, "cancelled", JobState::cancelled};
  }
  if (live.node != kNoNode) {
    nodes_.at(live.node).cancels.push_back({id, job.fence()});
    nodes_.touch(live.node);
  }
  return {id, "cancelling", job.state};
}

TargetResult BrokerCore::apply(const Retry&, const JobId& id, Now now, Output& out) {
  const auto slot = jobs_.find(id);
  if (!slot) return gone(id);
  LiveJob& live = jobs_.at(*slot);
  Job& job = live.job;
  if (job.state == JobState::completed) return {id, "too_late", job.state};
  if (!is_ended(job.state)) return {id, "not_ended", job.state};
  if (job.is_payload_lost) return {id, "too_late", job.state};
  // A new life: counters at 0, the attempt number goes on.
  ++job.life;
  job.retry_count = job.lost_count = 0;
  job.finished_ms = job.cancel_requested_ms = 0;
  job.cancel_reason.clear();
  job.error_code.clear();
  job.error.clear();
  job.spec.expires_at_ms = 0;  // whoever retries an expired job wants it to run
  job.due_ms = now.wall_ms;
  // Written with its payload: retention may take the ended job out of the view at any moment.
  live.needs_payload_write = true;
  live.is_cold = false;
  ended_.forget(id);
  make_ready(*slot, out);
  return {id, "retried", job.state};
}

TargetResult BrokerCore::apply(const Delete&, const JobId& id, Now now, Output&) {
  const auto slot = jobs_.find(id);
  if (!slot) {  // deleted before (the answer may have been lost), or by retention
    TargetResult result = gone(id);
    if (result.status == "too_late") result.status = "deleted";
    return result;
  }
  const Job& job = jobs_.at(*slot).job;
  if (!is_ended(job.state)) return {id, "not_ended", job.state};
  const JobState state = job.state;
  const EndedRecord ended{hash_id(id.view()), job.spec.content_hash, state, now.wall_ms};
  ended_.remember(ended);
  removed_.push_back({id, ended});
  deleted_[id] = UINT64_MAX;  // until its batch has its number
  jobs_.erase(*slot);
  return {id, "deleted", state};
}

// An operation on a job of which at most the memory of its end is left.
TargetResult BrokerCore::gone(const JobId& id) const {
  if (const Ended* ended = ended_.find(id)) return {id, "too_late", ended->state};
  return {id, "not_found", std::nullopt};
}

// ---------------------------------------------------------------- queues, nodes

void BrokerCore::on_pause(const std::string& queue,
                          bool is_paused,
                          const Context& context,
                          Output& out) {
  if (!queues_.has_room_for(queue))
    return refuse(context.peer, context.req, {ErrorCode::bad_field, "queue", kTooManyQueues}, out);
  const QueueIndex index = queues_.queue(queue);
  QueueEntry& entry = queues_.entry(index);
  if (entry.record.is_paused != is_paused) {
    entry.record.is_paused = is_paused;
    mark_queue_dirty(index);
    using Kind = OperatorFact::Kind;
    out.facts.push_back(
        OperatorFact{is_paused ? Kind::queue_paused : Kind::queue_resumed, queue, 0});
  }
  reply(context.peer, context.req, Done{is_paused ? "paused" : "resumed", 0}, out);
}

void BrokerCore::on_wish(const std::string& name,
                         BrokerBody wish,
                         const Context& context,
                         Output& out) {
  std::vector<NodeIndex> named;
  for (const NodeIndex index : nodes_.used())
    if (nodes_.at(index).id == name || nodes_.at(index).name() == name) named.push_back(index);
  if (named.empty())
    return refuse(context.peer,
                  context.req,
                  {ErrorCode::not_found, "node", "no node of this name or id is connected"},
                  out);
  if (named.size() > 1)
    return refuse(
        context.peer,
        context.req,
        {ErrorCode::conflict, "node", "more than one node has this name; give the whole id"},
        out);
  Node& node = nodes_.at(named.front());
  if (const auto* concurrency = std::get_if<ConcurrencyWish>(&wish))
    out.facts.push_back(OperatorFact{OperatorFact::Kind::node_concurrency_asked,
                                     node.id,
                                     concurrency->concurrency});
  else
    out.facts.push_back(OperatorFact{OperatorFact::Kind::node_drain_asked, node.id, 0});
  node.wishes.push_back(std::move(wish));
  nodes_.touch(named.front());
  reply(context.peer, context.req, Done{"asked", 1}, out);
}

}  // namespace sluice
