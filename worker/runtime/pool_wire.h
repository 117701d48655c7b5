// What a process pool (process_pool.h) is told of its processes: how one is started, what is spoken
// with it, and what its end means. Isolates and kept programs each have theirs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "common/result.h"
#include "worker/core/attempt.h"
#include "worker/runtime/error_stream.h"
#include "worker/runtime/runtime.h"
#include "worker/runtime/spawner.h"

namespace sluice {

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

}  // namespace sluice
