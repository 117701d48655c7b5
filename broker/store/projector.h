// Brings the view (the hashes and indexes that people read) up to date behind the log. Pure:
// confirmed entries go in, calls of about 32 rows and a megabyte come out, four on their way at
// most, so that they never hold up the log.
//
// A *round* takes what has changed since the last one, coalesced by job: of a job that changed
// three times only the newest record is written. The last call of a round moves the checkpoint; it
// goes out when all others have been applied.
// Idle: a round begins at once; under load every `interval_ms`, stretched while rounds take more
// than half of it, as far as `lag_max_ms` allows; what is then still behind slows the producers
// down (Engine::wants_producers). Any call may be repeated: a failed round is begun again.
//
// Retention removes what ended long ago in two steps: a call names it, and the next one brings the
// record by which its id stays known, and removes it (`retired`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/store/store.h"
#include "common/time.h"

namespace sluice {

struct ProjectorConfig {
  Retention retention;
  std::size_t rows_per_call = 32;
  std::size_t bytes_per_call = 1u << 20;  // of rows; a greater one goes alone
  std::int64_t interval_ms = 50;
  std::int64_t lag_max_ms = 800;      // up to which it stretches under load
  std::size_t ended_max = 1'000'000;  // ended ids kept in Redis, for kEndedKeepMs at most
};

class Projector {
 public:
  // `checkpoint` and the numbers of the ended chunks are those of Opened.
  Projector(ProjectorConfig config,
            std::uint64_t checkpoint,
            std::uint64_t ended_chunk_first,
            std::uint64_t ended_chunk_next);
  ~Projector();
  Projector(const Projector&) = delete;
  Projector& operator=(const Projector&) = delete;

  // The next confirmed entry, in order.
  void add(const LogEntryPtr& entry, Now now);
  // A queue that the view has: it is looked through for old jobs, whether or not anything ends in
  // it.
  void know_queue(std::string name);
  // While memory is written again, whole, what comes with its payload may be in the view already.
  void set_rewritten(bool is_rewritten);
  // A queue whose record the view may have lost: in the next round, unless an entry has a newer
  // one.
  void restore_queue(const QueueRecord& queue);
  // This job has a log, which goes with it: if nothing else of it is ever written, it is removed.
  void note_log(const JobId& id);
  // For people: a node's last status (empty json = it is gone), a line for the stream `events`.
  void note_node(NodeText node);
  void note_event(std::string json);
  // Somebody wants to read the view as of this batch: do not wait for the interval.
  void hurry(std::uint64_t batch);

  // The next call, while one is due and may go out. `epoch` is left for the caller to fill in.
  [[nodiscard]] std::optional<ProjectRequest> next(Now now);
  // The oldest call that is out was applied; or one was refused or its outcome is unknown: the
  // round begins again, and what is said of its other calls is not to be told.
  void done(const ProjectReply& reply, Now now);
  void failed();

  // At a start, and after a resync, when the view may have gone back: everything after `checkpoint`
  // again.
  void restart(std::uint64_t checkpoint, const std::vector<LogEntryPtr>& entries, Now now);

  // The last batch that the view contains.
  [[nodiscard]] std::uint64_t checkpoint() const;
  // Whether anything is still to be written.
  [[nodiscard]] bool has_work() const;
  [[nodiscard]] std::int64_t next_deadline_mono_ms(Now now) const;
  // How long the oldest entry that is not in the view has been confirmed.
  [[nodiscard]] std::int64_t lag_ms(Now now) const;
  [[nodiscard]] std::uint64_t finished_not_kept() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice
