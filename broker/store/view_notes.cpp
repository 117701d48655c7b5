#include "broker/store/view_notes.h"

#include <utility>

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

using Json = nlohmann::ordered_json;

// Names and labels are checked at the edge, but a text for people must never be what throws.
std::string json_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void put(Json& json, const char* name, std::string_view value) {
  if (!value.empty()) json[name] = value;
}

void put(Json& json, const char* name, std::uint64_t value) {
  if (value > 0) json[name] = value;
}

}  // namespace

void ViewNotes::note_node(const NodeInfo& node, std::uint64_t after_batch, Now now) {
  Json labels = Json::object();
  for (const Header& label : node.labels)
    labels[label.name] = label.value;
  Json json = {{"concurrency", node.concurrency},
               {"running", node.running},
               {"free", node.free},
               {"tasks", node.tasks},
               {"queues", node.queues},
               {"labels", std::move(labels)},
               {"draining", node.draining},
               {"version", node.version},
               {"completed", node.completed},
               {"failed", node.failed},
               {"seen_ms", now.wall_ms - node.last_seen_ms}};
  for (const IsolateFigures& isolates : node.isolates)
    json["isolates"].push_back({{"task", isolates.task},
                                {"total", isolates.total},
                                {"busy", isolates.busy},
                                {"waiting", isolates.waiting},
                                {"jobs", isolates.jobs},
                                {"crashes", isolates.crashes},
                                {"recycles", isolates.recycles},
                                {"busy_ms", isolates.busy_ms}});
  nodes_[node.node] = {json_text(json), after_batch};
}

void ViewNotes::note_gone(const std::string& node, std::uint64_t after_batch) {
  nodes_[node] = {{}, after_batch};
}

void ViewNotes::note_event(const EventNote& event, std::uint64_t after_batch, Now now) {
  if (const std::int64_t second = now.wall_ms / 1000; second != second_) {
    second_ = second;
    in_second_ = 0;
    if (const std::uint64_t left_out = std::exchange(left_out_, 0); left_out > 0)
      hold_event({.what = "left_out", .count = left_out}, after_batch, now);
  }
  hold_event(event, after_batch, now);
}

void ViewNotes::hold_event(const EventNote& event, std::uint64_t after_batch, Now now) {
  if (in_second_ >= kEventsPerSecond || events_.size() >= kHeldMax) {
    left_out_ += event.what == "left_out" ? event.count : 1;
    return;
  }
  ++in_second_;
  Json json = {{"at_ms", now.wall_ms}, {"event", event.what}};
  put(json, "node", event.node);
  put(json, "job", event.job);
  put(json, "queue", event.queue);
  put(json, "task", event.task);
  put(json, "attempt", event.attempt);
  put(json, "retry_count", event.retry_count);
  put(json, "error_code", event.error_code);
  put(json, "count", event.count);
  events_.push_back({json_text(json), after_batch});
}

void ViewNotes::release(std::uint64_t confirmed, Projector& projector) {
  for (auto node = nodes_.begin(); node != nodes_.end();) {
    if (node->second.after_batch > confirmed) {
      ++node;
      continue;
    }
    projector.note_node({node->first, std::move(node->second.json)});
    node = nodes_.erase(node);
  }
  while (!events_.empty() && events_.front().after_batch <= confirmed) {
    projector.note_event(std::move(events_.front().json));
    events_.pop_front();
  }
}

}  // namespace sluice
