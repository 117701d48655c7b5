#include "worker/runtime/program_settings.h"

#include <pwd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/config_value.h"
#include "common/limits.h"
#include "worker/runtime/process_result.h"
#include "worker/runtime/program_doubts.h"

namespace sluice {

namespace {

constexpr std::int64_t kCountMax = 1'000'000;

Result<void> take_count(TaskSettings& settings,
                        const std::string& key,
                        std::int64_t least,
                        std::uint64_t& target) {
  const auto count = settings.take_integer(key, least, kCountMax);
  if (!count) return tl::unexpected(count.error());
  target = static_cast<std::uint64_t>(count->value_or(0));
  return {};
}

// With less no program can be loaded.
constexpr std::int64_t kMemoryMin = 16 << 20;
constexpr std::int64_t kHandlerMemoryMin = 256 << 20;

Result<void> take_size(TaskSettings& settings,
                       const std::string& key,
                       std::int64_t least,
                       std::uint64_t& target) {
  const auto bytes = settings.take_bytes(key);
  if (!bytes) return tl::unexpected(bytes.error());
  if (*bytes && **bytes < least)
    return tl::unexpected(
        settings.error(key, "must be at least " + std::to_string(least) + " bytes"));
  target = static_cast<std::uint64_t>(bytes->value_or(0));
  return {};
}

Result<void> take_cpu(TaskSettings& settings, std::uint64_t& target) {
  constexpr const char* kKey = "limits.cpu";
  const auto span_ms = settings.take_duration_ms(kKey);
  if (!span_ms) return tl::unexpected(span_ms.error());
  if (*span_ms && (**span_ms == 0 || **span_ms % 1000 != 0))
    return tl::unexpected(settings.error(kKey, "must be whole seconds, such as \"30s\""));
  target = static_cast<std::uint64_t>(span_ms->value_or(0) / 1000);
  return {};
}

Result<ProgramLimits> take_limits(TaskSettings& settings, const std::string& user) {
  ProgramLimits limits;
  for (const auto& taken : {take_size(settings, "limits.memory", kMemoryMin, limits.memory_bytes),
                            take_cpu(settings, limits.cpu_s),
                            // Three streams, the pipe of progress, and one to load a library with.
                            take_count(settings, "limits.open_files", 5, limits.open_files),
                            take_count(settings, "limits.processes", 1, limits.processes),
                            take_size(settings, "limits.file_size", 1, limits.file_bytes)})
    if (!taken) return tl::unexpected(taken.error());
  if (limits.processes != 0 && !settings.host().is_in_groups &&
      (user.empty() ? ::geteuid() == 0 : user == "root"))
    return tl::unexpected(settings.error("limits.processes",
                                         "does not bind root without cgroups: name a user for this "
                                         "task alone, e.g. user = \"nobody\""));
  return limits;
}

// One that the node may become.
Result<std::string> take_user(TaskSettings& settings) {
  const auto user = settings.take_text("user");
  if (!user) return tl::unexpected(user.error());
  if (!*user || (*user)->empty()) return std::string();
  const passwd* entry = ::getpwnam((*user)->c_str());
  if (entry == nullptr)
    return tl::unexpected(
        settings.error("user", "there is no user " + **user + " on this machine"));
  if (::geteuid() != 0 && entry->pw_uid != ::geteuid())
    return tl::unexpected(
        settings.error("user", "only a node that runs as root may run programs as " + **user));
  return **user;
}

constexpr int kExitForGood = 65;  // EX_DATAERR of sysexits.h

// Killed for its limit: by the signal that says so, or for having ignored it, which can only be
// guessed: the kernel's account for the limit counts ticks, and what it reports at the end does not
// (that may be an eighth less) and has the program's children in it.
bool is_out_of_cpu(const ProgramLimits& limits, const SpawnReport& report) {
  const int signal = WTERMSIG(report.wait_status);
  const std::int64_t used_up_ms = static_cast<std::int64_t>(limits.cpu_s) * 750;
  return limits.cpu_s != 0 &&
         (signal == SIGXCPU || (signal == SIGKILL && report.cpu_ms >= used_up_ms));
}

}  // namespace

Result<ProgramLimits> take_handler_limits(TaskSettings& settings) {
  ProgramLimits limits;
  for (const auto& taken :
       {take_size(settings, "limits.memory", kHandlerMemoryMin, limits.memory_bytes),
        take_cpu(settings, limits.cpu_s),
        take_size(settings, "limits.file_size", 1, limits.file_bytes)})
    if (!taken) return tl::unexpected(taken.error());
  return limits;
}

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
  doubt_program(settings, program.argv.front(), program.cwd);
  auto env = settings.take_map("env");
  if (!env) return tl::unexpected(env.error());
  if (*env) program.env = std::move(**env);
  for (const char* own : {"SLUICE_NODE", "SLUICE_TASK"})
    if (program.env.contains(own))
      return tl::unexpected(settings.error("env", std::string(own) + " is the node's to set"));
  auto pass_env = settings.take_texts("pass_env");
  if (!pass_env) return tl::unexpected(pass_env.error());
  if (*pass_env) program.pass_env = std::move(**pass_env);
  auto user = take_user(settings);
  if (!user) return tl::unexpected(user.error());
  program.user = std::move(*user);
  const auto limits = take_limits(settings, program.user);
  if (!limits) return tl::unexpected(limits.error());
  program.limits = *limits;
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

AttemptResult never_ran(const RunJob& job,
                        const ProgramSettings& program,
                        const SpawnReport& report) {
  const int error = report.exec_errno;
  const bool is_missing =
      error == ENOENT || error == EACCES || error == ENOTDIR || error == ENOEXEC;
  if (!is_missing) return cannot_start(job, error);
  if (report.is_cwd_refused != 0)
    return failed_attempt(
        job,
        "cwd_not_found",
        "its directory (cwd) " + program.cwd + " cannot be entered: " + std::strerror(error),
        false);
  return failed_attempt(
      job,
      "program_not_found",
      "the program " + program.argv.at(0) + " cannot be run: " + std::strerror(error),
      false);
}

AttemptResult failed_by_exit(const RunJob& job,
                             const ProgramLimits& limits,
                             const SpawnReport& report,
                             const std::string& what,
                             const std::string& tail) {
  const int wait_status = report.wait_status;
  if (report.is_out_of_memory != 0)
    return failed_attempt(job, "memory_limit", with_tail(out_of_memory(limits), tail), true);
  if (WIFSIGNALED(wait_status)) {
    if (is_out_of_cpu(limits, report))
      return failed_attempt(
          job,
          "cpu_limit",
          with_tail("killed: it used all its " + std::to_string(limits.cpu_s) + " s of CPU time",
                    tail),
          true);
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

std::string out_of_memory(const ProgramLimits& limits) {
  return "out of memory: killed at its limit of " +
         show_bytes(static_cast<std::int64_t>(limits.memory_bytes));
}

void keep_tail(std::string& tail, std::string_view more) {
  constexpr std::size_t kKept = kErrorTextBytesMax - 64;
  tail += more;
  if (tail.size() > kKept) tail.erase(0, tail.size() - kKept);
}

}  // namespace sluice
