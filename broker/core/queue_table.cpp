#include "broker/core/queue_table.h"

#include <algorithm>
#include <utility>

#include "common/limits.h"

namespace sluice {

namespace {

constexpr std::size_t kSweepMin = 4'096;

}  // namespace

QueueIndex QueueTable::queue(std::string_view name) {
  key_.assign(name);
  const auto found = by_name_.find(key_);
  if (found != by_name_.end()) return found->second;
  const auto index = static_cast<QueueIndex>(queues_.size());
  queues_.emplace_back();
  queues_.back().record.name = key_;
  by_name_.emplace(key_, index);
  return index;
}

LineIndex QueueTable::line(std::string_view queue_name, std::string_view task) {
  set_key(queue_name, task);
  const auto found = by_task_.find(key_);
  if (found != by_task_.end()) return found->second;
  const auto index = static_cast<LineIndex>(lines_.size());
  by_task_.emplace(key_, index);
  const QueueIndex owner = queue(queue_name);
  lines_.emplace_back();
  lines_.back().queue = owner;
  lines_.back().task = std::string(task);
  queues_[owner].lines.push_back(index);
  return index;
}

bool QueueTable::has_room_for(std::string_view queue_name) {
  return queues_.size() < kQueuesMax || find(queue_name) != nullptr;
}

bool QueueTable::has_room_for(std::string_view queue_name, std::string_view task) {
  if (!has_room_for(queue_name)) return false;
  if (lines_.size() < kLinesMax) return true;
  set_key(queue_name, task);
  return by_task_.contains(key_);
}

void QueueTable::set_key(std::string_view queue_name, std::string_view task) {
  key_.assign(queue_name);
  key_.push_back('\0');
  key_.append(task);
}

QueueEntry* QueueTable::find(std::string_view name) {
  key_.assign(name);
  const auto found = by_name_.find(key_);
  return found == by_name_.end() ? nullptr : &queues_[found->second];
}

void QueueTable::enter(JobSlot slot) {
  const LiveJob& live = jobs_.at(slot);
  Line& line = lines_[live.line];
  auto& waiting = line.waiting[static_cast<std::size_t>(live.job.spec.priority)];
  sweep(live.line, waiting, line.sweep_at[static_cast<std::size_t>(live.job.spec.priority)]);
  const Waiting mine{live.job.sequence, slot};
  if (waiting.empty() || waiting.back().sequence < mine.sequence) {
    waiting.push_back(mine);
  } else {
    const auto place = std::find_if(waiting.begin(), waiting.end(), [&](const Waiting& other) {
      return other.sequence > mine.sequence;
    });
    waiting.insert(place, mine);
  }
  const LineHead head{live.job.spec.priority, mine.sequence, slot};
  if (!line.is_ready || head.before(line.place->head)) list(live.line, head);
}

// Cancelled and expired jobs leave their entries to head(), which comes no further than the first
// that waits.
void QueueTable::sweep(LineIndex index, std::deque<Waiting>& waiting, std::size_t& sweep_at) {
  if (waiting.size() < std::max(sweep_at, kSweepMin)) return;
  std::erase_if(waiting, [&](const Waiting& each) { return !is_waiting(each, index); });
  sweep_at = 2 * waiting.size();
}

QueueTable::ReadyLines::const_iterator QueueTable::list(LineIndex index, const LineHead& head) {
  unlist(index);
  Line& line = lines_[index];
  line.is_ready = true;
  if (spare_.empty()) return line.place = ready_.insert({head, index}).first;
  spare_.back().value() = {head, index};
  line.place = ready_.insert(std::move(spare_.back())).position;
  spare_.pop_back();
  return line.place;
}

void QueueTable::unlist(LineIndex index) {
  Line& line = lines_[index];
  if (std::exchange(line.is_ready, false)) spare_.push_back(ready_.extract(line.place));
}

QueueTable::ReadyLines::const_iterator QueueTable::settle(ReadyLines::const_iterator place) {
  while (place != ready_.end()) {
    const LineIndex line = place->line;
    const LineHead* true_head = head(line);
    if (true_head != nullptr && *true_head == place->head) break;
    const auto next = std::next(place);
    if (true_head == nullptr) {
      unlist(line);
      place = next;
    } else {
      const auto listed = list(line, *true_head);
      place = next == ready_.end() || *listed < *next ? listed : next;
    }
  }
  return place;
}

bool QueueTable::is_waiting(const Waiting& waiting, LineIndex line) const {
  const LiveJob& live = jobs_.at(waiting.slot);
  return live.is_used && live.job.state == JobState::queued && live.line == line &&
         live.job.sequence == waiting.sequence;
}

const LineHead* QueueTable::head(LineIndex index) {
  Line& line = lines_[index];
  for (std::size_t priority = kPriorities; priority-- > 0;) {
    auto& waiting = line.waiting[priority];
    while (!waiting.empty() && !is_waiting(waiting.front(), index))
      waiting.pop_front();
    if (waiting.empty()) continue;
    line.head = {static_cast<Priority>(priority), waiting.front().sequence, waiting.front().slot};
    return &line.head;
  }
  return nullptr;
}

std::size_t QueueTable::entries(LineIndex index) const {
  std::size_t count = 0;
  for (const auto& waiting : lines_[index].waiting)
    count += waiting.size();
  return count;
}

void QueueTable::pop(LineIndex index) {
  Line& line = lines_[index];
  line.waiting[static_cast<std::size_t>(line.head.priority)].pop_front();
}

}  // namespace sluice
