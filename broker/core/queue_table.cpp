#include "broker/core/queue_table.h"

#include <algorithm>

namespace sluice {

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
  key_.assign(queue_name);
  key_.push_back('\0');
  key_.append(task);
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

QueueEntry* QueueTable::find(std::string_view name) {
  key_.assign(name);
  const auto found = by_name_.find(key_);
  return found == by_name_.end() ? nullptr : &queues_[found->second];
}

void QueueTable::enter(JobSlot slot) {
  const LiveJob& live = jobs_.at(slot);
  Line& line = lines_[live.line];
  auto& waiting = line.waiting[static_cast<std::size_t>(live.job.spec.priority)];
  const Waiting mine{live.job.sequence, slot};
  if (waiting.empty() || waiting.back().sequence < mine.sequence) {
    waiting.push_back(mine);
  } else {
    const auto place = std::find_if(waiting.begin(), waiting.end(), [&](const Waiting& other) {
      return other.sequence > mine.sequence;
    });
    waiting.insert(place, mine);
  }
  if (!line.is_ready) {
    line.is_ready = true;
    ready_.push_back(live.line);
  }
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

void QueueTable::pop(LineIndex index) {
  Line& line = lines_[index];
  line.waiting[static_cast<std::size_t>(line.head.priority)].pop_front();
}

void QueueTable::sweep_ready() {
  std::erase_if(ready_, [&](LineIndex index) {
    if (head(index) != nullptr) return false;
    lines_[index].is_ready = false;
    return true;
  });
}

}  // namespace sluice
