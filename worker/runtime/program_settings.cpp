#include "worker/runtime/program_settings.h"

#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/limits.h"
#include "worker/runtime/process_result.h"

namespace sluice {

namespace {

constexpr int kExitForGood = 65;  // EX_DATAERR of sysexits.h

}  // namespace

Result<ProgramSettings> take_program(TaskSettings& settings) {
  ProgramSettings program;
  auto argv = settings.take_texts("program");
  if (!argv) return tl::unexpected(argv.error());
  if (!*argv || (*argv)->empty() || (*argv)->front().empty())
    return tl::unexpected(settings.missing("program", "must name a program, e.g. [\"sha256sum\"]"));
  program.argv = std::move(**argv);
  auto cwd = settings.take_text("cwd");
  if (!cwd) return tl::unexpected(cwd.error());
  program.cwd = cwd->value_or("");
  auto env = settings.take_map("env");
  if (!env) return tl::unexpected(env.error());
  if (*env) program.env = std::move(**env);
  for (const char* own : {"SLUICE_NODE", "SLUICE_TASK"})
    if (program.env.contains(own))
      return tl::unexpected(settings.error("env", std::string(own) + " is the node's to set"));
  auto pass_env = settings.take_texts("pass_env");
  if (!pass_env) return tl::unexpected(pass_env.error());
  if (*pass_env) program.pass_env = std::move(**pass_env);
  return program;
}

std::vector<std::string> environment_of(const ProgramSettings& program,
                                        const std::string& node,
                                        const std::string& task) {
  std::vector<std::string> all;
  for (const std::string& name : program.pass_env) {
    const char* value = std::getenv(name.c_str());
    if (value != nullptr && !program.env.contains(name)) all.push_back(name + "=" + value);
  }
  for (const auto& [name, value] : program.env)
    all.push_back(name + "=" + value);
  all.push_back("SLUICE_NODE=" + node);
  all.push_back("SLUICE_TASK=" + task);
  return all;
}

AttemptResult never_ran(const RunJob& job, int error) {
  const bool is_missing =
      error == ENOENT || error == EACCES || error == ENOTDIR || error == ENOEXEC;
  if (!is_missing) return cannot_start(job, error);
  return failed_attempt(job,
                        "program_not_found",
                        std::string("the program cannot be run: ") + std::strerror(error),
                        false);
}

AttemptResult failed_by_exit(const RunJob& job,
                             int wait_status,
                             const std::string& what,
                             const std::string& tail) {
  if (WIFSIGNALED(wait_status)) {
    const std::string name = signal_name(WTERMSIG(wait_status));
    return failed_attempt(job,
                          "killed_by_" + name,
                          with_tail("killed by " + name + what, tail),
                          true);
  }
  const int code = WEXITSTATUS(wait_status);
  return failed_attempt(job,
                        "exit_" + std::to_string(code),
                        with_tail("exited with code " + std::to_string(code) + what, tail),
                        code != kExitForGood);
}

void keep_tail(std::string& tail, std::string_view more) {
  constexpr std::size_t kKept = kErrorTextBytesMax - 64;
  tail += more;
  if (tail.size() > kKept) tail.erase(0, tail.size() - kKept);
}

}  // namespace sluice
