// The worker's decisions: which attempts it holds, which of them run, which results are not yet
// acknowledged, when it speaks. Pure: no clock, socket, thread, randomness or log inside.
//
// Rules that do not depend on what the broker says:
// - never more than `concurrency` attempts run; what comes beyond that waits here;
// - a slot is free only at AttemptDone, not when a stop was asked for;
// - a result is kept, and repeated, until an `ack` or a `drop` names its fence;
// - what attempts log is sent as well as may be: it holds up nothing, is bounded (LogBuffer), and
//   is not repeated;
// - a message whose number is not higher than the last one's is not taken.
//
// One turn: handle() for every event at hand, settle() once, then carry out the output. Nothing may
// be kept back: an output not carried out is a lost message.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "common/limits.h"
#include "common/time.h"
#include "worker/core/events.h"
#include "worker/core/log_buffer.h"
#include "worker/core/output.h"

namespace sluice {

struct WorkerSettings {
  std::string node;      // name@life, new with every process
  std::string replaces;  // the life before, or empty
  std::uint32_t concurrency = 1;
  std::vector<std::string> tasks;
  std::vector<std::string> queues;  // empty = every queue
  std::vector<Header> labels;
  std::string version = SLUICE_VERSION;
  std::int64_t drain_grace_ms = kDrainGraceDefaultMs;
};

class WorkerCore {
 public:
  static constexpr std::int64_t kRepeatFirstMs = 5'000;  // a result unanswered for so long
  static constexpr std::int64_t kRepeatMaxMs = 60'000;
  // Between two reports of one attempt, but for a checkpoint that its handler waits for.
  static constexpr std::int64_t kProgressIntervalMs = 250;
  // Results sent and not yet acknowledged; more wait here, so that a status is never behind
  // megabytes on a slow line. At least one result is always let go.
  static constexpr std::size_t kInFlightBytesMax = 4u << 20;
  // Of an attempt's log: between the end of what it wrote and the next, and of all attempts, bytes
  // that wait here.
  static constexpr std::int64_t kLogIntervalMs = 100;
  static constexpr std::size_t kLogBytesMax = 32u << 20;
  static constexpr std::size_t kLogBytesShort = 4096;  // of an attempt, beyond that
  // Bytes of logs sent since the last status that was answered. A status is never behind more than
  // about twice as much of them; when it is reached, one is sent to ask. What attempts wrote last,
  // which goes ahead of their results, may go up to the second.
  static constexpr std::size_t kLogInFlightBytes = 128u << 10;
  static constexpr std::size_t kLogInFlightBytesMax = 1u << 20;
  static constexpr std::int64_t kLogStatusMs = 100;  // between two such statuses
  // How long after the drain grace a node waits for its handlers to end and for the acknowledgement
  // of its last results; then it leaves all the same.
  static constexpr std::int64_t kLastGraceMs = 10'000;

  explicit WorkerCore(WorkerSettings settings);

  void handle(WorkerEvent event, Now now, WorkerOutput& out);
  // Fires timers, fills free slots, makes the messages of this turn.
  void settle(Now now, WorkerOutput& out);
  // When settle() wants to be called at the latest; kNever if only an event can change anything.
  [[nodiscard]] std::int64_t next_deadline_mono_ms() const;

  // For invariants and figures.
  [[nodiscard]] std::size_t running_count() const { return running_; }

  [[nodiscard]] std::size_t held_count() const { return held_.size(); }

  [[nodiscard]] std::size_t unacknowledged_count() const { return finished_; }

  // Of jobs' logs, not sent yet.
  [[nodiscard]] std::size_t log_bytes() const { return log_bytes_; }

  // A broker has welcomed it on this connection.
  [[nodiscard]] bool is_welcomed() const { return is_connected_ && is_welcomed_; }

  [[nodiscard]] bool is_draining() const { return drain_deadline_ms_ != kNever; }

  [[nodiscard]] const WorkerSettings& settings() const { return settings_; }

 private:
  enum class Timer : std::uint8_t {
    time_out,
    repeat_result,
    progress,           // the interval since the last report is over
    repeat_checkpoint,  // sent and not acknowledged
    log,                // may be sent again
  };
  static constexpr std::size_t kTimers = 5;

  struct Held {
    RunJob job;  // moved out when it starts
    Phase phase = Phase::waiting;
    bool is_dropped = false;   // still running, its report will be thrown away
    bool is_stopping = false;  // the runtime was asked to stop it
    std::array<std::int64_t, kTimers> due_ms = {kNever, kNever, kNever, kNever, kNever};
    // The newest progress, and the newest checkpoint until it is acknowledged.
    bool has_report = false;  // something of it has not left yet
    bool is_checkpoint_due = false;
    std::uint32_t percent = 0;
    std::string message;
    std::optional<std::string> checkpoint;
    std::uint64_t checkpoint_n = 0;
    std::uint64_t awaited_n = 0;  // of the newest that somebody waits for
    std::int64_t report_allowed_ms = 0;
    // What it wrote to its job's log.
    LogBuffer log;
    bool is_log_due = false;  // stands in log_queue_
    std::int64_t log_allowed_ms = 0;
    // Only when finished.
    AttemptResult result;
    std::int64_t repeat_delay_ms = kRepeatFirstMs;
    bool is_in_flight = false;
  };

  using HeldMap = std::unordered_map<AttemptKey, Held>;

  void on(BrokerMessage& message, Now now, WorkerOutput& out);
  void on(ConnectionUp&, Now now, WorkerOutput& out);
  void on(ConnectionDown&, Now now, WorkerOutput& out);
  void on(AttemptDone& done, Now now, WorkerOutput& out);
  void on(AttemptProgress& progress, Now now, WorkerOutput& out);
  void on(AttemptLog& log, Now now, WorkerOutput& out);
  void on(TasksChanged& changed, Now now, WorkerOutput& out);
  void on(StopRequested&, Now now, WorkerOutput& out);
  void on(LeaveRequested&, Now now, WorkerOutput& out);
  void on(RuntimeBroken& broken, Now now, WorkerOutput& out);

  void take(Welcome& welcome, Now now, WorkerOutput& out);
  void take(Run& run, Now now, WorkerOutput& out);
  void take(CancelAttempts& cancel, Now now, WorkerOutput& out);
  void take(DropAttempts& drop, Now now, WorkerOutput& out);
  void take(Ack& ack, Now now, WorkerOutput& out);
  void take(DrainWish&, Now now, WorkerOutput& out);
  void take(ConcurrencyWish& wish, Now now, WorkerOutput& out);
  void take(Refused& refused, Now now, WorkerOutput& out);

  void start_waiting(Now now, WorkerOutput& out);
  void stop(const AttemptKey& key, Held& held, StopReason reason, WorkerOutput& out);
  void finish(const AttemptKey& key, Held& held, AttemptResult result, WorkerOutput& out);
  void forget(HeldMap::iterator it);
  void begin_drain(std::string why, std::int64_t grace_ms, Now now, WorkerOutput& out);
  void hand_back_waiting(WorkerOutput& out);
  void hand_back_withdrawn(WorkerOutput& out);
  void drain(Now now, WorkerOutput& out);
  void leave(ExitWish exit, Now now, WorkerOutput& out);
  void fire_timers(Now now, WorkerOutput& out);
  void repeat_everything(Now now, WorkerOutput& out);
  void send_status(Now now, WorkerOutput& out);
  void report(const AttemptKey& key, Held& held, Now now, WorkerOutput& out);
  void send_results(Now now, WorkerOutput& out);
  void want_log_sent(const AttemptKey& key, Held& held);
  void send_logs(Now now, WorkerOutput& out);
  void send_log(const AttemptKey& key, Held& held, WorkerOutput& out);
  void send_last_log(const AttemptKey& key, Held& held, WorkerOutput& out);
  void forget_log(Held& held);
  void land(const AttemptKey& key, Held& held);
  void arm(const AttemptKey& key, Held& held, Timer timer, std::int64_t due_ms);

  WorkerSettings settings_;
  HeldMap held_;
  std::deque<AttemptKey> waiting_;  // in the order of arrival; may name what is gone
  std::deque<AttemptKey> outbox_;   // finished, to be sent; may name what is gone
  std::set<std::tuple<std::int64_t, Timer, AttemptKey>> timers_;
  std::set<std::string, std::less<>> withdrawn_;  // tasks that it offered once
  std::size_t running_ = 0;
  std::size_t finished_ = 0;
  std::size_t in_flight_bytes_ = 0;
  std::deque<AttemptKey> log_queue_;     // have something to send, in turn; may name what is gone
  std::size_t log_bytes_ = 0;            // that wait, of all
  std::size_t log_in_flight_bytes_ = 0;  // sent and not known to be read
  std::size_t log_before_status_ = 0;    // of them, those ahead of a status not yet answered
  std::int64_t status_sent_ms_ = 0;

  Seen seen_;
  std::uint64_t status_seq_ = 0;
  std::uint64_t checkpoint_n_ = 0;
  std::int64_t heartbeat_ms_ = kHeartbeatDefaultMs;
  std::uint64_t result_bytes_max_ = kResultBytesMax;
  std::int64_t next_status_ms_ = kNever;
  bool is_connected_ = false;
  bool is_welcomed_ = false;  // on this connection and in this epoch
  bool status_wanted_ = false;
  bool has_left_ = false;
  std::int64_t drain_deadline_ms_ = kNever;  // when what still runs is handed back
  bool is_grace_over_ = false;
};

}  // namespace sluice
