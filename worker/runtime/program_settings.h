// Which program a task runs, where, as whom, and with what environment and limits: what `exec` and
// `kept` have in common.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "worker/core/attempt.h"
#include "worker/runtime/program_limits.h"
#include "worker/runtime/spawner.h"
#include "worker/runtime/task_table.h"

namespace sluice {

struct ProgramSettings {
  std::vector<std::string> argv;
  std::string cwd;                                                     // empty = the node's
  std::map<std::string, std::string> env;                              // set
  std::vector<std::string> pass_env = {"PATH", "HOME", "LANG", "TZ"};  // from the node's own
  std::string user;                                                    // empty = the node's
  ProgramLimits limits;
};

// Settings: program (must be given), cwd, env, pass_env, user, limits.memory, limits.cpu (whole
// seconds), limits.open_files, limits.processes, limits.file_size. Errors: bad_field; also for a
// user that the node may not become, and for limits.processes as root, whom it does not bind.
[[nodiscard]] Result<ProgramSettings> take_program(TaskSettings& settings);

// The limits of a handler that is compiled in: limits.memory (at least 256 MiB: its process is a
// copy of the node), limits.cpu and limits.file_size. It has descriptors of its own to keep order
// with, and the node's user.
[[nodiscard]] Result<ProgramLimits> take_handler_limits(TaskSettings& settings);

// NAME=value, with SLUICE_NODE and SLUICE_TASK.
[[nodiscard]] std::vector<std::string> environment_of(const ProgramSettings& program,
                                                      const std::string& node,
                                                      const std::string& task);

// The result of an attempt whose program could not be run: `program_not_found` or `cwd_not_found`,
// for good, or cannot_start().
[[nodiscard]] AttemptResult never_ran(const RunJob& job,
                                      const ProgramSettings& program,
                                      const SpawnReport& report);

// How a program ended, as the attempt's failure: killed_by_SIGNAL or exit_N, 65 for good, or
// `cpu_limit` or `memory_limit`. `what` and `tail` are for people: "killed by SIGSEGV" + what, and
// what it said last. A code of 0 too: whoever asks has no result of it.
[[nodiscard]] AttemptResult failed_by_exit(const RunJob& job,
                                           const ProgramLimits& limits,
                                           const SpawnReport& report,
                                           const std::string& what,
                                           const std::string& tail);

// For people, of what the kernel ended for its memory.
[[nodiscard]] std::string out_of_memory(const ProgramLimits& limits);

// The end of what a program says on stderr: as much as an error's text takes.
void keep_tail(std::string& tail, std::string_view more);

}  // namespace sluice
