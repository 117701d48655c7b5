// Processes that are kept and given one job after another: what isolates and kept programs have in
// common. How one is started and what is spoken with it is its PoolKind's.
//
// Each task has a pool of its own. It begins with `processes_min`, grows by one whenever a job
// finds all of them busy, up to `processes_max`, and goes back after `idle`. A job beyond that
// waits here, in its slot, first in first out. A process is replaced at once when it dies at work;
// one that dies before it was given anything is replaced when a job asks, so that a machine without
// memory, or a program that is not there, does not make it fork in a circle. A job that was given
// to one that left between two jobs, and did not read it, is handed back, once; then a fresh
// process is made for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/result.h"
#include "worker/core/attempt.h"
#include "worker/runtime/error_stream.h"
#include "worker/runtime/runtime.h"
#include "worker/runtime/spawner.h"
#include "worker/runtime/task_table.h"

namespace sluice {

struct PoolSettings {
  std::uint32_t processes_min = 1;    // there when idle; started with the node
  std::uint32_t processes_max = 0;    // 0 = as many as there are slots
  std::int64_t idle_ms = 30'000;      // one above the minimum leaves after so long without a job
  std::uint32_t jobs_max = 0;         // replaced after so many jobs; 0 = never, 1 = never reused
  std::int64_t memory_max_bytes = 0;  // replaced after a job when one had more; 0 = never
  std::int64_t timeout_ms = 0;        // 0 = only the job's; else the lesser of both
  std::int64_t grace_ms = 5000;       // between asking to stop and SIGKILL
};

// Settings: NAME_min, NAME_max, idle, recycle_after, timeout, grace. `name` is what the processes
// are called: "isolates".
[[nodiscard]] Result<PoolSettings> take_pool_settings(TaskSettings& settings,
                                                      const std::string& name);

// What a process has said of the attempt that it was given; a result has its usage.
using PoolWord = std::variant<AttemptProgress, AttemptLog, AttemptResult>;

// One process' line to its node. Its end asks the process to leave.
class PoolWire {
 public:
  enum class Fill : std::uint8_t {
    some,
    none,    // nothing at hand
    end,     // closed, or broken
    unread,  // closed, and what it was given last it has not read
  };

  // `errors` is the reading end of a pipe, its standard error.
  explicit PoolWire(UniqueFd errors) : errors_(std::move(errors)) {}

  PoolWire(const PoolWire&) = delete;
  PoolWire& operator=(const PoolWire&) = delete;
  virtual ~PoolWire() = default;

  // A stream, which does not block: jobs are written to it, and words read from it.
  [[nodiscard]] virtual int fd() const = 0;

  // Its process begins, if the spawner was asked to tell.
  virtual void started(pid_t pid) { (void)pid; }

  [[nodiscard]] ErrorStream& errors() { return errors_; }

  // The bytes that give it this job, its `number`th. The job may be changed, but for its payload it
  // is what it was afterwards.
  [[nodiscard]] virtual std::string give(RunJob& job, std::uint32_t number) = 0;

  // Asks it to end that job soon. What is returned is to be written to the stream.
  [[nodiscard]] virtual std::string stop(std::uint32_t number) = 0;

  // Tells it what became of a checkpoint of that job, if it waits for such.
  virtual void answer(std::uint32_t /*number*/, const CheckpointAnswer& /*answer*/) {}

  // One read(2).
  [[nodiscard]] virtual Fill fill() = 0;

  // The next word that was read. Nothing: there is none yet. Errors: it does not speak like this;
  // the detail says what is wrong, for people.
  [[nodiscard]] virtual Result<std::optional<PoolWord>> next() = 0;

 private:
  ErrorStream errors_;
};

// Why an attempt has no result.
struct PoolEnd {
  SpawnReport report;
  std::string spoiled;     // not empty: it did not speak its protocol, and was killed for that
  std::string error_tail;  // what it wrote last to its standard error
};

class PoolKind {
 public:
  PoolKind() = default;
  PoolKind(const PoolKind&) = delete;
  PoolKind& operator=(const PoolKind&) = delete;
  virtual ~PoolKind() = default;

  // Asks the spawner for a process under this number. Errors: an errno.
  [[nodiscard]] virtual tl::expected<std::unique_ptr<PoolWire>, int> start(
      SpawnerChannel& spawner, std::uint64_t number) = 0;

  // What becomes of the attempt of a process that has ended by itself.
  [[nodiscard]] virtual AttemptResult judge_end(const RunJob& job, const PoolEnd& end) const = 0;
};

struct PoolSetup {
  PoolSettings settings;
  std::unique_ptr<PoolKind> kind;
};

// `pools` are by task. `node` is the mark of what it starts.
[[nodiscard]] std::unique_ptr<Runtime> make_pool_runtime(
    std::map<std::string, PoolSetup, std::less<>> pools, SpawnerChannel& spawner, std::string node);

}  // namespace sluice
