#include "worker/tasks/http_waits.h"

#include <algorithm>

#include "common/clock.h"
#include "worker/tasks/retry_after.h"

namespace sluice {

namespace {

constexpr int kTooManyRequests = 429;

void refuse(HttpCall& call, std::string code, std::string why) {
  call.reply = {};
  call.reply.url = call.request.target.url;
  call.reply.error_code = std::move(code);
  call.reply.error = std::move(why);
  call.reply.retryable = true;
}

}  // namespace

HttpWaits::Admission HttpWaits::admit(Call& call, std::int64_t now_ms) {
  if (call->request.is_urgent) return Admission::begins;
  const Admission admission = hold_back(call, now_ms);
  return admission == Admission::begins ? stand_in_line(call) : admission;
}

HttpWaits::Admission HttpWaits::hold_back(Call& call, std::int64_t now_ms) {
  const auto until_ms = pauses_.until_ms(call->request.target.origin);
  if (!until_ms) return Admission::begins;
  if (call->end_mono_ms() > *until_ms) {
    const CallId id = call->id;
    paused_[id] = std::move(call);
    return Admission::waits;
  }
  const std::int64_t left_s = (*until_ms - now_ms + 999) / 1000;
  const std::string seconds = std::to_string(std::max<std::int64_t>(left_s, 1));
  refuse(*call,
         "target_paused",
         "not called: it asked (429) for a pause, of which " + seconds + " s are left");
  call->reply.headers.push_back({"Retry-After", seconds});
  return Admission::refused;
}

HttpWaits::Admission HttpWaits::stand_in_line(Call& call) {
  const HttpRequest& request = call->request;
  if (request.calls_per_host == 0) return Admission::begins;
  call->room = request.group + ' ' + request.target.origin;
  if (room_.enter(call->room, request.calls_per_host)) return Admission::begins;
  const CallId id = call->id;
  room_.wait(call->room, id);
  if (call->end_mono_ms() != kNever) line_ends_.insert({call->end_mono_ms(), id});
  in_line_[id] = std::move(call);
  return Admission::waits;
}

bool HttpWaits::note_pause(const HttpCall& call) {
  if (call.reply.status != kTooManyRequests) return false;
  const Now now = clock_now();
  const auto asked_ms = parse_retry_after(call.reply.header("retry-after"), now.wall_ms);
  return pauses_.note(call.request.target.origin, asked_ms.value_or(0), now.mono_ms);
}

void HttpWaits::leave(HttpCall& call) {
  if (call.room.empty()) return;
  room_.leave(call.room);
  freed_.push_back(std::exchange(call.room, {}));
}

std::vector<HttpWaits::Call> HttpWaits::take_paused() {
  std::vector<Call> calls;
  for (auto& [id, call] : std::exchange(paused_, {}))
    calls.push_back(std::move(call));
  return calls;
}

HttpWaits::Call HttpWaits::next_with_room() {
  while (!freed_.empty()) {
    if (const auto id = room_.next(freed_.back())) return out_of_line(*id);
    freed_.pop_back();
  }
  return nullptr;
}

std::vector<HttpWaits::Call> HttpWaits::end(std::int64_t now_ms) {
  pauses_.end(now_ms);
  std::vector<Call> late;
  while (!line_ends_.empty() && line_ends_.begin()->first <= now_ms) {
    Call call = out_of_line(line_ends_.begin()->second);
    room_.forget(call->room, call->id);
    refuse(*call,
           "no_room",
           "not called: as many calls to its host as there may be at once (" +
               std::to_string(call->request.calls_per_host) + ") were under way all the time");
    late.push_back(std::move(call));
  }
  return late;
}

std::int64_t HttpWaits::next_end_ms() const {
  const std::int64_t line_end_ms = line_ends_.empty() ? kNever : line_ends_.begin()->first;
  return std::min(pauses_.next_end_ms(), line_end_ms);
}

void HttpWaits::cancel(CallId id) {
  if (const Call call = out_of_line(id)) room_.forget(call->room, id);
  paused_.erase(id);
}

// Null when it is in no line.
HttpWaits::Call HttpWaits::out_of_line(CallId id) {
  auto node = in_line_.extract(id);
  if (node.empty()) return nullptr;
  line_ends_.erase({node.mapped()->end_mono_ms(), id});
  return std::move(node.mapped());
}

}  // namespace sluice
