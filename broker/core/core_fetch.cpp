// Reads of what is not in memory. A request that needs cold jobs is put aside with one fetch; when
// the jobs are here it is handled again, by the same code, as if they had never been away. They
// leave with the end of the turn, unless the request gave them a new life.
#include <algorithm>

#include "broker/core/core.h"

namespace sluice {

// Whether an id that memory does not hold could be found in the view.
bool BrokerCore::may_be_cold(const JobId& id, const Context& context) const {
  if (jobs_.find(id) || deleted_.contains(id)) return false;
  if (context.fetched != nullptr &&
      std::binary_search(context.fetched->absent.begin(), context.fetched->absent.end(), id))
    return false;
  return has_cold_jobs_ || ended_.find(id) != nullptr;
}

void BrokerCore::park(RequestReceived& event,
                      std::vector<JobId> ids,
                      const Context& context,
                      Output& out) {
  if (is_store_down_)
    return refuse(context.peer, context.req, store_is_away(event.request.body), out);
  // Put aside again, because a job left memory meanwhile: what was fetched leaves with this turn,
  // so all of it is fetched once more, with the newcomer. Fetching the newcomer alone would never
  // end: each fetch would find the other half gone.
  if (context.fetched != nullptr)
    ids.insert(ids.end(), context.fetched->asked.begin(), context.fetched->asked.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  const std::uint64_t token = next_token_++;
  Parked parked{std::move(event), context.cursor, ids};
  out.fetches.emplace_back(FetchJobs{token, std::move(ids)});
  parked_.emplace(token, std::move(parked));
  ++counters_.fetches;
}

void BrokerCore::on_fetched(FetchedJobs& fetched, Now now, Output& out) {
  auto node = parked_.extract(fetched.token);
  if (node.empty()) return;
  Parked& parked = node.mapped();
  for (Job& job : fetched.jobs) {
    // What memory knows is newer.
    if (jobs_.find(job.id()) || deleted_.contains(job.id())) continue;
    if (!is_ended(job.state)) {
      // Every live job is in memory, so the view is behind in an order that should not be. Not
      // taken: the request is answered from memory.
      ++counters_.illegal_fetched;
      continue;
    }
    const JobSlot slot = jobs_.insert(std::move(job));
    LiveJob& live = jobs_.at(slot);
    live.line = queues_.line(live.job.spec.queue, live.job.spec.task);
    live.is_cold = true;
    cold_.push_back(slot);
  }
  FetchedIds ids{.asked = std::move(parked.ids), .absent = {}};
  for (const JobId& id : ids.asked)
    if (!jobs_.find(id)) ids.absent.push_back(id);
  on_request(parked.request, &ids, std::move(parked.cursor), now, out);
}

void BrokerCore::on_fetched_list(FetchedList& fetched, Now now, Output& out) {
  auto node = parked_.extract(fetched.token);
  if (node.empty()) return;
  Parked& parked = node.mapped();
  const Peer& peer = parked.request.peer;
  const Req& req = parked.request.request.req;
  if (fetched.error) return refuse(peer, req, std::move(*fetched.error), out);
  std::vector<JobId> ids;
  if (std::holds_alternative<List>(parked.request.request.body)) {
    Listed listed;
    listed.cursor = std::move(fetched.cursor);
    listed.batch = fetched.batch;
    for (Job& job : fetched.jobs)
      listed.jobs.push_back(
          {.id = job.id(), .job = job, .state = job.state, .finished_ms = job.finished_ms});
    return reply(peer, req, std::move(listed), out);
  }
  for (const Job& job : fetched.jobs)
    ids.push_back(job.id());
  const auto narrow = [&](auto& operation) {
    operation.targets.filter.reset();
    operation.targets.ids.swap(ids);  // one of the three below
  };
  auto& body = parked.request.request.body;
  if (auto* cancel = std::get_if<Cancel>(&body)) narrow(*cancel);
  if (auto* retry = std::get_if<Retry>(&body)) narrow(*retry);
  if (auto* operation = std::get_if<Delete>(&body)) narrow(*operation);
  on_request(parked.request, nullptr, std::move(fetched.cursor), now, out);
}

void BrokerCore::on_fetched_job_log(FetchedJobLog& fetched, Output& out) {
  auto node = parked_.extract(fetched.token);
  if (node.empty()) return;
  const RequestReceived& asked = node.mapped().request;
  const auto& logs = std::get<Logs>(asked.request.body);
  LogPage page{.id = logs.id,
               .state = node.mapped().state,
               .chunks = std::move(fetched.chunks),
               .next = fetched.size,
               .size = fetched.size};
  // With nothing to tell, also when it wrote less than was asked for: Redis lost some.
  if (!page.chunks.empty()) page.next = page.chunks.back().offset + page.chunks.back().bytes.size();
  reply(asked.peer, asked.request.req, std::move(page), out);
}

void BrokerCore::on_fetch_failed(std::uint64_t token, Output& out) {
  auto node = parked_.extract(token);
  if (node.empty()) return;
  const RequestReceived& request = node.mapped().request;
  refuse(request.peer,
         request.request.req,
         {ErrorCode::store_unavailable,
          "",
          "Redis went away, or lost data, while the broker read from it; ask again"},
         out);
}

void BrokerCore::drop_cold_jobs() {
  for (const JobSlot slot : cold_)
    if (jobs_.at(slot).is_used && jobs_.at(slot).is_cold) jobs_.erase(slot);
  cold_.clear();
}

// The view has these ended jobs now, or retention was faster: memory keeps only that they have
// ended.
void BrokerCore::on_projected(std::uint64_t checkpoint, Now now) {
  std::erase_if(deleted_, [&](const auto& deleted) { return deleted.second <= checkpoint; });
  while (!awaiting_view_.empty() && awaiting_view_.front().first <= checkpoint) {
    const auto [batch, slot] = awaiting_view_.front();
    awaiting_view_.pop_front();
    const LiveJob& live = jobs_.at(slot);
    const bool is_it =
        live.is_used && !live.is_dirty && live.job.batch == batch && is_ended(live.job.state);
    if (!is_it) continue;
    EndedRecord ended{hash_id(live.job.id().view()),
                      live.job.spec.content_hash,
                      live.job.state,
                      live.job.finished_ms};
    ended.remove_at(now.wall_ms);
    ended_.remember(ended);
    jobs_.erase(slot);
  }
}

}  // namespace sluice
