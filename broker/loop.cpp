#include "broker/loop.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include <zmq.h>

#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/log.h"

namespace sluice {

namespace {

// What one turn reads of each socket at most, so that no peer keeps the others waiting and a batch
// stays of a size that Redis takes in its stride.
constexpr int kMessagesPerTurn = 256;
constexpr std::size_t kBytesPerTurn = 1u << 20;
// Some messages are a thousand times dearer than others: no turn takes in more after this time.
constexpr std::int64_t kReceiveMaxMs = 20;
// A longer gap between two turns means that we were stopped or starved.
constexpr std::int64_t kGapMs = 1000;
// An orderly stop takes no longer, whatever the store does.
constexpr std::int64_t kStopMaxMs = 4000;

}  // namespace

bool is_signalled(int signals, int wait_ms) {
  pollfd signal{signals, POLLIN, 0};
  return ::poll(&signal, 1, wait_ms) > 0;
}

Loop::Loop(Engine& engine, Store& store, LoopSockets& sockets, int signals)
    : engine_(engine),
      store_(store),
      sockets_(sockets),
      signals_(signals),
      clock_(monotonic_ms(), wall_clock_ms()),
      last_turn_ms_(monotonic_ms()) {}

int Loop::run() {
  while (true) {
    const Now now = read_clock();
    receive(now);
    receive_store(now);
    engine_.turn(now);
    send(now);
    log_facts();
    if (engine_.is_fenced()) return kExitFenced;
    if (stop_until_ms_ != kNever && (engine_.is_drained() || now.mono_ms >= stop_until_ms_)) {
      if (!engine_.is_drained()) log::warn("stopped_with_unwritten_view", {});
      return kExitOk;
    }
    poll(now);
  }
}

// The time, and whether we slept through more of it than the poll wanted.
Now Loop::read_clock() {
  bool has_jumped = false;
  const std::int64_t mono_ms = monotonic_ms();
  const Now now = clock_.update(mono_ms, wall_clock_ms(), has_jumped);
  if (has_jumped) log::warn("wall_clock_jumped", {{"by_ms", wall_clock_ms() - now.wall_ms}});
  const std::int64_t gap_ms = mono_ms - last_turn_ms_ - last_wait_ms_;
  if (gap_ms > kGapMs) {
    log::warn("broker_slept", {{"gap_ms", gap_ms}});
    engine_.slept(gap_ms, now);
  }
  last_turn_ms_ = mono_ms;
  return now;
}

void Loop::poll(Now now) {
  const std::int64_t deadline_ms = std::min(
      {engine_.next_deadline_mono_ms(now), store_.next_deadline_mono_ms(), stop_until_ms_});
  const std::int64_t wait_ms =
      deadline_ms == kNever ? -1
                            : std::clamp<std::int64_t>(deadline_ms - monotonic_ms(), 0, 60'000);
  const short producer_events = engine_.wants_producers(now) ? ZMQ_POLLIN : 0;
  const auto store_events =
      static_cast<short>(ZMQ_POLLIN | (store_.wants_write() ? ZMQ_POLLOUT : 0));
  std::array<zmq_pollitem_t, 5> items = {{
      {sockets_.workers->handle(), 0, ZMQ_POLLIN, 0},
      {sockets_.producers->handle(), 0, producer_events, 0},
      {sockets_.events->handle(), 0, ZMQ_POLLIN, 0},
      {nullptr, signals_, ZMQ_POLLIN, 0},
      {nullptr, store_.fd(), store_events, 0},
  }};
  const int count = store_.fd() < 0 ? 4 : 5;
  const std::int64_t before_ms = monotonic_ms();
  (void)zmq_poll(items.data(), count, static_cast<long>(wait_ms));
  // Time spent waiting as told is no gap, however long; waking late is.
  const std::int64_t waited_ms = monotonic_ms() - before_ms;
  last_wait_ms_ = wait_ms < 0 ? waited_ms : std::min(waited_ms, wait_ms);
  is_readable_ = count == 5 && (items[4].revents & (ZMQ_POLLIN | ZMQ_POLLERR)) != 0;
  is_writable_ = count == 5 && (items[4].revents & ZMQ_POLLOUT) != 0;
  if ((items[3].revents & ZMQ_POLLIN) != 0) on_signal(now);
}

void Loop::receive(Now now) {
  std::size_t bytes = 0;
  const std::int64_t workers_until_ms = monotonic_ms() + kReceiveMaxMs;
  for (int i = 0;
       i < kMessagesPerTurn && bytes < kBytesPerTurn && monotonic_ms() <= workers_until_ms;
       ++i) {
    auto incoming = sockets_.workers->receive();
    if (!incoming) break;
    bytes += incoming->bytes.size();
    engine_.receive_worker(std::move(incoming->peer), incoming->bytes, now);
  }
  bytes = 0;
  const std::int64_t producers_until_ms = monotonic_ms() + kReceiveMaxMs;
  for (int i = 0; i < kMessagesPerTurn && bytes < kBytesPerTurn &&
                  monotonic_ms() <= producers_until_ms && engine_.wants_producers(now);
       ++i) {
    auto incoming = sockets_.producers->receive();
    if (!incoming) break;
    bytes += incoming->bytes.size();
    engine_.receive_producer(std::move(incoming->peer), incoming->bytes, now);
  }
  sockets_.events->watch_subscribers();
  engine_.want_job_events(sockets_.events->has_job_subscribers() || log::is_on(log::Level::debug));
  engine_.want_log_events(sockets_.events->has_log_subscribers());
}

void Loop::receive_store(Now now) {
  if (is_readable_ || is_writable_ || now.mono_ms >= store_.next_deadline_mono_ms())
    store_.on_ready(is_readable_, is_writable_, now);
  is_readable_ = is_writable_ = false;
  store_.receive(replies_);
  for (StoreReply& reply : replies_)
    engine_.receive_store(std::move(reply), now);
  replies_.clear();
}

void Loop::send(Now now) {
  engine_.take_store_requests(requests_);
  for (StoreRequest& request : requests_)
    store_.send(std::move(request));
  // What was just asked goes out now, not after the next poll.
  if (store_.wants_write()) store_.on_ready(false, true, now);
  engine_.take_frames(frames_);
  for (const Frame& frame : frames_) {
    switch (frame.channel) {
      case Channel::producers:
        sockets_.producers->send(frame.peer, frame.bytes);
        break;
      case Channel::workers:
        sockets_.workers->send(frame.peer, frame.bytes);
        break;
      case Channel::watchers:
        sockets_.events->send(frame.peer.routing_id, frame.bytes);
        break;
    }
  }
}

// The first signal: refuse submits, finish the pipeline, bring the view up to date, leave. The
// second: leave at once, as after a crash, which is safe.
void Loop::on_signal(Now now) {
  signalfd_siginfo info{};
  if (::read(signals_, &info, sizeof info) != sizeof info) return;
  if (stop_until_ms_ != kNever) {
    log::warn("stopped_at_once", {{"signal", info.ssi_signo}});
    stop_until_ms_ = now.mono_ms;
    return;
  }
  log::info("stopping", {{"signal", info.ssi_signo}});
  stop_until_ms_ = now.mono_ms + kStopMaxMs;
  engine_.stop(now);
}

void Loop::log_facts() {
  engine_.take_facts(facts_);
  for (const EngineFact& fact : facts_) {
    switch (fact.kind) {
      case EngineFact::Kind::job:
        log::write(fact.what == "failed" ? log::Level::info : log::Level::debug,
                   "job_" + fact.what,
                   {{"job", fact.id},
                    {"queue", fact.queue},
                    {"attempt", fact.attempt},
                    {"error_code", fact.text}});
        break;
      case EngineFact::Kind::node:
        log::write(fact.what == "dead" ? log::Level::warn : log::Level::info,
                   "node_" + fact.what,
                   {{"node", fact.id}});
        break;
      case EngineFact::Kind::store_lost:
        if (fact.count == 0)  // a connection that is gone, not a refusal
          log::warn("store_lost", {{"reason", fact.text}});
        else
          log::warn("store_lost", {{"reason", fact.text}, {"times", fact.count}});
        break;
      case EngineFact::Kind::store_back:
        log::info("store_back", {});
        break;
      case EngineFact::Kind::store_resynced:
        if (fact.count == 0)  // a connection that is back, and all is there
          log::info("store_resynced", {{"batches_put_back", fact.count}});
        else
          log::warn("store_resynced",
                    {{"batches_put_back", fact.count},
                     {"detail", "Redis had lost them (emptied? gone back?) or never got them"}});
        break;
      case EngineFact::Kind::store_rolled_back:
        log::error("store_rolled_back", {{"batches_missing", fact.count}, {"detail", fact.text}});
        break;
      case EngineFact::Kind::store_rewritten:
        log::info("store_rewritten", {{"jobs", fact.count}});
        break;
      case EngineFact::Kind::store_fenced:
        log::error("store_fenced", {{"reason", fact.text}});
        break;
      case EngineFact::Kind::store_unsafe:
        log::error("store_unsafe", {{"reason", fact.text}});
        break;
      case EngineFact::Kind::store_foreign:
        log::warn("store_foreign_keys",
                  {{"count", fact.count},
                   {"detail",
                    "keys of somebody else stood at names of ours; they are called "
                    "sluice:{p0}:foreign:<name> now"}});
        break;
      case EngineFact::Kind::memory_full:
        log::warn("memory_full",
                  {{"reason",
                    "memory_max is used up, submits are told to come back: start workers, "
                    "or give it more"}});
        break;
      case EngineFact::Kind::bad_message:
        log::warn("bad_message", {{"reason", fact.text}});
        break;
    }
  }
}

}  // namespace sluice
