#include "worker/core/worker_core.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/mutant.h"
#include "worker/core/bounded.h"
#include "worker/core/text.h"

namespace sluice {

namespace {

constexpr std::size_t kResultsPerMessageMax = 1000;
constexpr std::size_t kResultEnvelopeBytes = 256;  // keys, id, fence, usage; rather too much

std::size_t wire_bytes(const AttemptResult& result) {
  return result.result.size() + result.error.size() + kResultEnvelopeBytes;
}

AttemptResult ended(const AttemptKey& key, Outcome outcome) {
  AttemptResult result;
  result.id = key.id;
  result.fence = key.fence;
  result.outcome = outcome;
  return result;
}

}  // namespace

std::string_view to_string(StopReason reason) {
  switch (reason) {
    case StopReason::cancel:
      return "cancel";
    case StopReason::timed_out:
      return "timed_out";
    case StopReason::dropped:
      return "dropped";
    case StopReason::hand_back:
      return "hand_back";
  }
  return "unknown";
}

WorkerCore::WorkerCore(WorkerSettings settings) : settings_(std::move(settings)) {
  CHECK(settings_.concurrency >= 1 && settings_.concurrency <= kConcurrencyMax);
}

void WorkerCore::handle(WorkerEvent event, Now now, WorkerOutput& out) {
  if (has_left_) return;
  std::visit([&](auto& happened) { on(happened, now, out); }, event);
}

void WorkerCore::settle(Now now, WorkerOutput& out) {
  if (has_left_) return;
  fire_timers(now, out);
  if (is_draining()) drain(now, out);
  if (has_left_) return;
  start_waiting(now, out);
  if (!is_connected_) return;
  if (status_wanted_ || now.mono_ms >= next_status_ms_) send_status(now, out);
  send_logs(now, out);
  send_results(now, out);
}

std::int64_t WorkerCore::next_deadline_mono_ms() const {
  if (has_left_) return kNever;
  std::int64_t next = timers_.empty() ? kNever : std::get<0>(*timers_.begin());
  if (is_connected_) next = std::min(next, next_status_ms_);
  if (is_draining())
    next = std::min(next,
                    is_grace_over_ ? after(drain_deadline_ms_, kLastGraceMs) : drain_deadline_ms_);
  return next;
}

// ---------------------------------------------------------------- the connection

void WorkerCore::on(ConnectionUp&, Now now, WorkerOutput& out) {
  is_connected_ = true;
  is_welcomed_ = false;
  log_in_flight_bytes_ = log_before_status_ = 0;
  send_status(now, out);  // before anything else: it says who speaks
  repeat_everything(now, out);
}

void WorkerCore::on(ConnectionDown&, Now, WorkerOutput& out) {
  if (!is_connected_) return;
  is_connected_ = false;
  out.facts.push_back(BrokerLost{running_, finished_});
}

// Nothing that was sent before counts as delivered: not over a new connection, and not to a broker
// that started anew.
void WorkerCore::repeat_everything(Now now, WorkerOutput& out) {
  outbox_.clear();
  for (auto& [key, held] : held_) {
    if (held.checkpoint) held.has_report = held.is_checkpoint_due = true;
    if (held.has_report && is_connected_) report(key, held, now, out);
    if (held.phase != Phase::finished) continue;
    land(key, held);
    held.repeat_delay_ms = kRepeatFirstMs;
    outbox_.push_back(key);
  }
}

// ---------------------------------------------------------------- what the broker says

void WorkerCore::on(BrokerMessage& message, Now now, WorkerOutput& out) {
  if (const auto* refused = std::get_if<Refused>(&message.body)) {
    out.facts.push_back(BrokerRefused{refused->error});
    return;
  }
  if (message.number <= seen_) {
    out.facts.push_back(OldMessageIgnored{message.number});
    return;
  }
  const bool is_new_epoch = seen_.epoch != 0 && message.number.epoch > seen_.epoch;
  seen_ = message.number;
  if (is_new_epoch) {
    is_welcomed_ = false;
    repeat_everything(now, out);
  }
  std::visit([&](auto& body) { take(body, now, out); }, message.body);
}

void WorkerCore::take(Welcome& welcome, Now now, WorkerOutput& out) {
  heartbeat_ms_ = std::max<std::int64_t>(welcome.heartbeat_ms, 1);
  result_bytes_max_ = std::min<std::uint64_t>(welcome.result_bytes_max, kResultBytesMax);
  next_status_ms_ = std::min(next_status_ms_, after(now.mono_ms, heartbeat_ms_));
  if (!welcome.repeat) log_in_flight_bytes_ -= std::exchange(log_before_status_, 0);
  if (welcome.repeat) {
    status_wanted_ = true;
    repeat_everything(now, out);
  }
  if (is_welcomed_) return;
  is_welcomed_ = true;
  status_wanted_ = true;  // so that `seen` of this connection is known at once
  out.facts.push_back(BrokerWelcomed{seen_.epoch});
}

void WorkerCore::take(Run& run, Now, WorkerOutput& out) {
  for (RunJob& job : run.jobs) {
    // What does not fit into a status is not taken: the broker misses it there and repeats it.
    if (held_.size() >= kHeldMax) return;
    AttemptKey key{job.id, job.fence};
    auto [it, is_new] = held_.try_emplace(key);
    if (!is_new) continue;
    it->second.job = std::move(job);
    waiting_.push_back(key);
  }
  if (is_draining()) hand_back_waiting(out);
  hand_back_withdrawn(out);
}

void WorkerCore::take(CancelAttempts& cancel, Now, WorkerOutput& out) {
  for (const AttemptRef& ref : cancel.attempts) {
    const auto it = held_.find(AttemptKey{ref.id, ref.fence});
    if (it == held_.end()) continue;
    auto& [key, held] = *it;
    if (held.phase == Phase::waiting) finish(key, held, ended(key, Outcome::cancelled), out);
    if (held.phase == Phase::running) stop(key, held, StopReason::cancel, out);
  }
}

void WorkerCore::take(DropAttempts& drop, Now, WorkerOutput& out) {
  for (const AttemptRef& ref : drop.attempts) {
    const auto it = held_.find(AttemptKey{ref.id, ref.fence});
    if (it == held_.end()) continue;
    if (it->second.phase == Phase::running) {
      if (it->second.is_dropped) continue;
      stop(it->first, it->second, StopReason::dropped, out);
      it->second.is_dropped = true;
      forget_log(it->second);
      continue;
    }
    out.facts.push_back(AttemptDropped{it->first});
    forget(it);
  }
}

void WorkerCore::take(Ack& ack, Now, WorkerOutput& out) {
  for (const AckedAttempt& acked : ack.results) {
    const auto it = held_.find(AttemptKey{acked.id, acked.fence});
    if (it == held_.end()) continue;
    Held& held = it->second;
    if (acked.checkpoint_n > 0) {
      if (acked.checkpoint_n != held.checkpoint_n) continue;  // a newer one is on its way
      held.checkpoint.reset();
      held.is_checkpoint_due = false;
      arm(it->first, held, Timer::repeat_checkpoint, kNever);
      if (const std::uint64_t awaited_n = std::exchange(held.awaited_n, 0); awaited_n > 0)
        out.answers.push_back({it->first, awaited_n, !acked.stale});
    } else if (held.phase == Phase::finished) {
      out.facts.push_back(ResultRecorded{it->first, acked.stale});
      forget(it);
    }
  }
}

void WorkerCore::take(DrainWish&, Now now, WorkerOutput& out) {
  begin_drain("operator", settings_.drain_grace_ms, now, out);
}

void WorkerCore::take(ConcurrencyWish& wish, Now, WorkerOutput& out) {
  settings_.concurrency = std::clamp<std::uint32_t>(wish.concurrency, 1, kConcurrencyMax);
  status_wanted_ = true;
  out.facts.push_back(ConcurrencyChanged{settings_.concurrency});
}

void WorkerCore::take(Refused&, Now, WorkerOutput&) {}

// ---------------------------------------------------------------- attempts

void WorkerCore::start_waiting(Now now, WorkerOutput& out) {
  while (running_ < settings_.concurrency && !waiting_.empty()) {
    const AttemptKey key = waiting_.front();
    waiting_.pop_front();
    const auto it = held_.find(key);
    if (it == held_.end() || it->second.phase != Phase::waiting) continue;
    Held& held = it->second;
    held.phase = Phase::running;
    ++running_;
    const std::int64_t timeout_ms = held.job.timeout_ms;
    const std::int64_t deadline = timeout_ms > 0 ? after(now.mono_ms, timeout_ms) : kNever;
    arm(key, held, Timer::time_out, deadline);
    out.facts.push_back(AttemptStarted{key, held.job.task});
    out.starts.push_back(Assignment{std::exchange(held.job, RunJob{}), deadline});
  }
}

void WorkerCore::stop(const AttemptKey& key, Held& held, StopReason reason, WorkerOutput& out) {
  if (held.is_stopping && reason != StopReason::dropped) return;
  held.is_stopping = true;
  arm(key, held, Timer::time_out, kNever);
  out.stops.push_back(AttemptStop{key, reason});
  out.facts.push_back(AttemptStopping{key, reason});
}

void WorkerCore::on(AttemptDone& done, Now now, WorkerOutput& out) {
  const auto it = held_.find(AttemptKey{done.result.id, done.result.fence});
  if (it == held_.end() || it->second.phase != Phase::running) return;
  auto& [key, held] = *it;
  --running_;
  if (held.is_dropped) {
    out.facts.push_back(AttemptDropped{key});
    forget(it);
    return;
  }
  // The last checkpoint goes ahead of the result: the next attempt wants it.
  if (held.has_report && is_connected_) report(key, held, now, out);
  finish(key, held, std::move(done.result), out);
}

void WorkerCore::finish(const AttemptKey& key,
                        Held& held,
                        AttemptResult result,
                        WorkerOutput& out) {
  held.job = RunJob{};
  held.phase = Phase::finished;
  held.result = bounded(std::move(result), result_bytes_max_);
  ++finished_;
  arm(key, held, Timer::time_out, kNever);
  arm(key, held, Timer::progress, kNever);
  arm(key, held, Timer::log, kNever);
  outbox_.push_back(key);
  out.facts.push_back(
      AttemptEnded{key, held.result.outcome, held.result.error_code, held.result.error});
}

void WorkerCore::forget(HeldMap::iterator it) {
  auto& [key, held] = *it;
  if (held.phase == Phase::finished) {
    land(key, held);
    --finished_;
  }
  forget_log(held);
  for (std::size_t timer = 0; timer < kTimers; ++timer)
    arm(key, held, static_cast<Timer>(timer), kNever);
  held_.erase(it);
}

void WorkerCore::on(AttemptProgress& progress, Now now, WorkerOutput& out) {
  const auto it = held_.find(AttemptKey{progress.id, progress.fence});
  if (it == held_.end() || it->second.phase != Phase::running || it->second.is_dropped) return;
  auto& [key, held] = *it;
  held.has_report = true;
  held.percent = std::min(progress.percent, kPercentMax);
  held.message = clean_text(progress.message, kProgressTextBytesMax);
  if (progress.checkpoint && progress.checkpoint->size() <= kCheckpointBytesMax) {
    held.checkpoint = std::move(progress.checkpoint);
    held.checkpoint_n = ++checkpoint_n_;
    held.is_checkpoint_due = true;
    held.awaited_n = std::max(held.awaited_n, progress.awaited_n);
  }
  if (!is_connected_) return;
  if (now.mono_ms >= held.report_allowed_ms || progress.awaited_n > 0)
    report(key, held, now, out);
  else
    arm(key, held, Timer::progress, held.report_allowed_ms);
}

void WorkerCore::report(const AttemptKey& key, Held& held, Now now, WorkerOutput& out) {
  Progress progress{.node = settings_.node,
                    .id = key.id,
                    .fence = key.fence,
                    .percent = held.percent,
                    .message = held.message,
                    .checkpoint = {},
                    .checkpoint_n = 0};
  if (held.is_checkpoint_due && held.checkpoint) {
    progress.checkpoint = held.checkpoint;
    progress.checkpoint_n = held.checkpoint_n;
    arm(key, held, Timer::repeat_checkpoint, after(now.mono_ms, kRepeatFirstMs));
    if (MUTANT(answers_unrecorded) && held.awaited_n > 0)
      out.answers.push_back({key, held.awaited_n, true});
  }
  held.has_report = held.is_checkpoint_due = false;
  held.report_allowed_ms = after(now.mono_ms, kProgressIntervalMs);
  arm(key, held, Timer::progress, kNever);
  out.sends.emplace_back(std::move(progress));
}

// ---------------------------------------------------------------- logs

void WorkerCore::on(AttemptLog& log, Now now, WorkerOutput&) {
  const auto it = held_.find(AttemptKey{log.id, log.fence});
  if (it == held_.end() || it->second.phase != Phase::running || it->second.is_dropped) return;
  auto& [key, held] = *it;
  log_bytes_ -= held.log.size();
  held.log.add(log.bytes, log_bytes_ < kLogBytesMax ? LogBuffer::kBytesMax : kLogBytesShort);
  log_bytes_ += held.log.size();
  if (now.mono_ms >= held.log_allowed_ms)
    want_log_sent(key, held);
  else if (!held.is_log_due)
    arm(key, held, Timer::log, held.log_allowed_ms);
}

void WorkerCore::want_log_sent(const AttemptKey& key, Held& held) {
  if (!std::exchange(held.is_log_due, true)) log_queue_.push_back(key);
}

// A piece of each in turn, while the line takes them.
void WorkerCore::send_logs(Now now, WorkerOutput& out) {
  while (!log_queue_.empty()) {
    if (log_in_flight_bytes_ >= kLogInFlightBytes) {
      next_status_ms_ = std::min(next_status_ms_, after(status_sent_ms_, kLogStatusMs));
      return;
    }
    const AttemptKey key = log_queue_.front();
    log_queue_.pop_front();
    const auto it = held_.find(key);
    if (it == held_.end()) continue;
    Held& held = it->second;
    held.is_log_due = false;
    if (held.phase != Phase::running || held.log.empty()) continue;
    send_log(key, held, out);
    held.log_allowed_ms = after(now.mono_ms, kLogIntervalMs);
    if (!held.log.empty()) want_log_sent(key, held);
  }
}

void WorkerCore::send_log(const AttemptKey& key, Held& held, WorkerOutput& out) {
  log_bytes_ -= held.log.size();
  Log message{settings_.node, key.id, key.fence, held.log.take()};
  log_bytes_ += held.log.size();
  log_in_flight_bytes_ += message.bytes.size();
  out.sends.emplace_back(std::move(message));
}

// What it wrote last goes ahead of its result; of too much at once only the end.
void WorkerCore::send_last_log(const AttemptKey& key, Held& held, WorkerOutput& out) {
  if (held.log.empty()) return;
  const std::size_t room =
      kLogInFlightBytesMax - std::min(kLogInFlightBytesMax, log_in_flight_bytes_);
  log_bytes_ -= held.log.size();
  held.log.cut(room);
  log_bytes_ += held.log.size();
  while (!held.log.empty())
    send_log(key, held, out);
}

void WorkerCore::forget_log(Held& held) {
  log_bytes_ -= held.log.size();
  held.log.clear();
}

// ---------------------------------------------------------------- results

void WorkerCore::send_results(Now now, WorkerOutput& out) {
  Results message{.node = settings_.node, .results = {}};
  while (!outbox_.empty() && message.results.size() < kResultsPerMessageMax) {
    const AttemptKey key = outbox_.front();
    const auto it = held_.find(key);
    if (it == held_.end() || it->second.phase != Phase::finished || it->second.is_in_flight) {
      outbox_.pop_front();
      continue;
    }
    Held& held = it->second;
    const std::size_t bytes = wire_bytes(held.result);
    if (in_flight_bytes_ > 0 && in_flight_bytes_ + bytes > kInFlightBytesMax) break;
    outbox_.pop_front();
    in_flight_bytes_ += bytes;
    held.is_in_flight = true;
    send_last_log(key, held, out);
    arm(key, held, Timer::repeat_result, after(now.mono_ms, held.repeat_delay_ms));
    message.results.push_back(held.result);
  }
  if (message.results.empty()) return;
  const bool is_full = message.results.size() == kResultsPerMessageMax;
  out.sends.emplace_back(std::move(message));
  if (is_full) send_results(now, out);
}

// The result is no longer on its way, as far as we count.
void WorkerCore::land(const AttemptKey& key, Held& held) {
  arm(key, held, Timer::repeat_result, kNever);
  if (std::exchange(held.is_in_flight, false)) in_flight_bytes_ -= wire_bytes(held.result);
}

void WorkerCore::send_status(Now now, WorkerOutput& out) {
  Status status;
  status.node = settings_.node;
  status.replaces = settings_.replaces;
  status.seq = ++status_seq_;
  status.concurrency = settings_.concurrency;
  status.tasks = settings_.tasks;
  status.queues = settings_.queues;
  status.labels = settings_.labels;
  status.draining = is_draining();
  status.version = settings_.version;
  status.seen = seen_;
  status.held.reserve(held_.size());
  for (const auto& [key, held] : held_)
    status.held.push_back(HeldAttempt{key.id, key.fence, held.phase});
  status_wanted_ = false;
  status_sent_ms_ = now.mono_ms;
  if (log_before_status_ == 0) log_before_status_ = log_in_flight_bytes_;
  next_status_ms_ = after(now.mono_ms, heartbeat_ms_);
  out.sends.emplace_back(std::move(status));
}

// ---------------------------------------------------------------- leaving

void WorkerCore::on(StopRequested&, Now now, WorkerOutput& out) {
  begin_drain("signal", settings_.drain_grace_ms, now, out);
}

void WorkerCore::on(TasksChanged& changed, Now, WorkerOutput& out) {
  withdrawn_.insert(settings_.tasks.begin(), settings_.tasks.end());
  settings_.tasks = std::move(changed.tasks);
  for (const std::string& task : settings_.tasks)
    withdrawn_.erase(task);
  status_wanted_ = true;
  hand_back_withdrawn(out);
}

void WorkerCore::on(RuntimeBroken& broken, Now now, WorkerOutput& out) {
  begin_drain(std::move(broken.detail), 0, now, out);
  drain_deadline_ms_ = std::min(drain_deadline_ms_, now.mono_ms);
}

void WorkerCore::on(LeaveRequested&, Now now, WorkerOutput& out) {
  leave(ExitWish::at_once, now, out);
}

void WorkerCore::begin_drain(std::string why, std::int64_t grace_ms, Now now, WorkerOutput& out) {
  if (is_draining()) return;
  drain_deadline_ms_ = after(now.mono_ms, grace_ms);
  status_wanted_ = true;
  out.facts.push_back(DrainBegun{std::move(why), running_});
  hand_back_waiting(out);
}

void WorkerCore::hand_back_waiting(WorkerOutput& out) {
  for (const AttemptKey& key : std::exchange(waiting_, {})) {
    const auto it = held_.find(key);
    if (it == held_.end() || it->second.phase != Phase::waiting) continue;
    finish(it->first, it->second, ended(key, Outcome::handed_back), out);
  }
}

// The broker dealt them before it knew.
void WorkerCore::hand_back_withdrawn(WorkerOutput& out) {
  if (withdrawn_.empty() || MUTANT(runs_withdrawn)) return;
  for (const AttemptKey& key : waiting_) {
    const auto it = held_.find(key);
    if (it == held_.end() || it->second.phase != Phase::waiting) continue;
    if (withdrawn_.contains(it->second.job.task))
      finish(it->first, it->second, ended(key, Outcome::handed_back), out);
  }
}

void WorkerCore::drain(Now now, WorkerOutput& out) {
  if (held_.empty()) return leave(ExitWish::drained, now, out);
  if (now.mono_ms < drain_deadline_ms_) return;
  if (!std::exchange(is_grace_over_, true)) {
    for (auto& [key, held] : held_)
      if (held.phase == Phase::running) stop(key, held, StopReason::hand_back, out);
  }
  // A handler that cannot be stopped, or a broker that does not answer.
  if (now.mono_ms >= after(drain_deadline_ms_, kLastGraceMs)) leave(ExitWish::at_once, now, out);
}

// Says what there is to say for the last time. The shell has ended every process when this leaves.
void WorkerCore::leave(ExitWish exit, Now now, WorkerOutput& out) {
  for (auto& [key, held] : held_) {
    if (held.phase == Phase::running) --running_;
    if (held.phase == Phase::finished || held.is_dropped) continue;
    if (held.has_report && is_connected_) report(key, held, now, out);  // its newest checkpoint
    finish(key, held, ended(key, Outcome::handed_back), out);
  }
  out.unacknowledged_count = finished_;
  out.facts.push_back(NodeLeaving{finished_});
  out.exit = exit;
  has_left_ = true;
  if (!is_connected_) return;
  outbox_.clear();
  in_flight_bytes_ = 0;
  for (auto& [key, held] : held_) {
    if (held.phase != Phase::finished) continue;
    held.is_in_flight = false;
    outbox_.push_back(key);
  }
  while (!outbox_.empty()) {
    send_results(Now{}, out);
    in_flight_bytes_ = 0;  // nothing comes behind these that could be late
  }
  out.sends.emplace_back(Goodbye{settings_.node});
}

// ---------------------------------------------------------------- timers

void WorkerCore::fire_timers(Now now, WorkerOutput& out) {
  while (!timers_.empty() && std::get<0>(*timers_.begin()) <= now.mono_ms) {
    const auto [due, timer, key] = *timers_.begin();
    Held& held = held_.at(key);
    arm(key, held, timer, kNever);
    switch (timer) {
      case Timer::time_out:
        stop(key, held, StopReason::timed_out, out);
        if (MUTANT(slot_freed_at_timeout)) {
          --running_;
          finish(key, held, ended(key, Outcome::handed_back), out);
        }
        break;
      case Timer::repeat_result:
        land(key, held);
        held.repeat_delay_ms = std::min(held.repeat_delay_ms * 2, kRepeatMaxMs);
        outbox_.push_back(key);
        break;
      case Timer::repeat_checkpoint:
        held.has_report = held.is_checkpoint_due = held.checkpoint.has_value();
        [[fallthrough]];
      case Timer::progress:
        if (is_connected_ && held.has_report) report(key, held, now, out);
        break;
      case Timer::log:
        want_log_sent(key, held);
        break;
    }
  }
}

void WorkerCore::arm(const AttemptKey& key, Held& held, Timer timer, std::int64_t due_ms) {
  std::int64_t& due = held.due_ms[static_cast<std::size_t>(timer)];
  if (due == due_ms) return;
  if (due != kNever) timers_.erase({due, timer, key});
  if (due_ms != kNever) timers_.insert({due_ms, timer, key});
  due = due_ms;
}

}  // namespace sluice
