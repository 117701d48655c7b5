// How attempts are run: the one interface between the worker's loop and its runtimes (thread, exec,
// kept, isolates, http). A runtime does its work without ever blocking the loop's thread and tells
// the loop through one file descriptor.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/protocol/messages.h"
#include "common/time.h"
#include "worker/core/attempt.h"

namespace sluice {

// The runtime can run nothing any more; the node hands back what it holds and leaves.
struct RuntimeFailed {
  std::string detail;
};

using RuntimeEvent = std::variant<AttemptDone, AttemptProgress, AttemptLog, RuntimeFailed>;

class Runtime {
 public:
  Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  virtual ~Runtime() = default;

  // Begins an attempt of a task that this runtime was configured for. Whatever goes wrong, also
  // right here, is told by an AttemptDone from poll().
  virtual void start(Assignment assignment) = 0;

  // Ends an attempt: asks, waits the configured grace, then kills. Still ends with one AttemptDone.
  // Unknown attempts are ignored. A second call with another reason keeps the first reason, except
  // that `dropped` replaces any.
  virtual void stop(const JobId& id, Fence fence, StopReason reason) = 0;

  // What became of a checkpoint with an `awaited_n`. Unknown attempts are ignored.
  virtual void answer(const CheckpointAnswer&) {}

  // Readable (level-triggered) when poll() has something to do.
  [[nodiscard]] virtual int fd() const = 0;

  // When poll() wants to be called at the latest, monotonic; kNever when it does not matter.
  [[nodiscard]] virtual std::int64_t next_deadline_mono_ms() const { return kNever; }

  // Does what there is to do and appends what happened.
  virtual void poll(Now now, std::vector<RuntimeEvent>& events) = 0;

  // Of every task that it runs in isolates.
  [[nodiscard]] virtual std::vector<IsolateFigures> figures() const { return {}; }

  // Ends what it keeps, while nothing runs in it and the node goes on; waits two seconds at most.
  virtual void end_idle() {}

  // Ends everything at once, in about two seconds at most; nothing is reported any more. False when
  // something cannot be ended (a handler that does not return): the process must leave by _Exit.
  [[nodiscard]] virtual bool shut_down() { return true; }
};

}  // namespace sluice
