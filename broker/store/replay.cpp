#include "broker/store/replay.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "broker/store/log_entry.h"
#include "broker/store/view_row.h"

namespace sluice {

namespace {

void take_queue(std::vector<QueueRecord>& queues, QueueRecord&& queue) {
  const auto found = std::find_if(queues.begin(), queues.end(), [&](const auto& known) {
    return known.name == queue.name;
  });
  if (found == queues.end())
    queues.push_back(std::move(queue));
  else
    *found = std::move(queue);
}

}  // namespace

std::optional<Error> replay_log(
    Opened& opened, const std::function<std::optional<std::string>(const JobId&)>& read_payload) {
  if (opened.unprojected.empty()) return std::nullopt;
  Snapshot& snapshot = opened.snapshot;
  std::unordered_map<JobId, std::size_t> places;
  places.reserve(snapshot.jobs.size());
  for (std::size_t i = 0; i < snapshot.jobs.size(); ++i)
    places.emplace(snapshot.jobs[i].id(), i);
  std::vector<bool> is_removed(snapshot.jobs.size(), false);
  std::unordered_map<JobId, std::uint64_t> deleted;

  for (const LogEntryPtr& entry : opened.unprojected) {
    auto decoded = decode_entry(entry->blob);
    if (!decoded) return decoded.error();
    for (ViewRow& row : decoded->jobs) {
      deleted.erase(row.job.id());
      const auto [place, is_new] = places.try_emplace(row.job.id(), snapshot.jobs.size());
      if (!row.has_payload && is_new) {
        auto payload = read_payload(row.job.id());
        row.job.is_payload_lost = !payload && keeps_old_payload(row);
        row.job.spec.payload = std::move(payload).value_or("");
      } else if (!row.has_payload) {
        Job& known = snapshot.jobs[place->second];
        row.job.is_payload_lost = known.is_payload_lost;
        row.job.spec.payload = std::move(known.spec.payload);
      }
      if (is_new) {
        snapshot.jobs.push_back(std::move(row.job));
        is_removed.push_back(false);
      } else if (snapshot.jobs[place->second].batch <= row.job.batch) {
        snapshot.jobs[place->second] = std::move(row.job);
        is_removed[place->second] = false;
      } else {
        // The view is ahead of this entry: a round that was broken off.
        snapshot.jobs[place->second].spec.payload = std::move(row.job.spec.payload);
        snapshot.jobs[place->second].is_payload_lost = row.job.is_payload_lost;
      }
    }
    for (const JobId& id : decoded->removed) {
      deleted[id] = entry->n;
      if (const auto place = places.find(id); place != places.end())
        is_removed[place->second] = true;
    }
    read_ended(decoded->removed_ended, snapshot.ended);
    for (QueueRecord& queue : decoded->queues)
      take_queue(snapshot.queues, std::move(queue));
    snapshot.next_sequence = std::max(snapshot.next_sequence, decoded->next_sequence);
  }

  for (const auto& [id, batch] : deleted)
    snapshot.deleted.push_back({id, batch});
  std::size_t kept = 0;
  for (std::size_t i = 0; i < snapshot.jobs.size(); ++i) {
    if (is_removed[i]) continue;
    if (kept != i) snapshot.jobs[kept] = std::move(snapshot.jobs[i]);
    ++kept;
  }
  snapshot.jobs.resize(kept);
  return std::nullopt;
}

}  // namespace sluice
