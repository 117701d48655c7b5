#include "worker/runtime/program_limits.h"

#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace sluice {

namespace {

// What getrlimit says now is the most that may be had: this only takes away.
int lower(int resource, std::uint64_t soft, std::uint64_t hard) {
  rlimit now{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &now) != 0) return errno;
  const rlimit wanted{std::min<rlim_t>(soft, now.rlim_cur), std::min<rlim_t>(hard, now.rlim_max)};
  return ::setrlimit(static_cast<__rlimit_resource>(resource), &wanted) == 0 ? 0 : errno;
}

}  // namespace

CgroupLimits ProgramLimits::take_for_group() {
  return {.memory_bytes = std::exchange(memory_bytes, 0), .processes = std::exchange(processes, 0)};
}

int apply_limits(const ProgramLimits& limits) {
  struct Limit {
    int resource;
    std::uint64_t soft;
    std::uint64_t hard;
  };

  for (const Limit& limit : {Limit{RLIMIT_AS, limits.memory_bytes, limits.memory_bytes},
                             Limit{RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1},
                             Limit{RLIMIT_NOFILE, limits.open_files, limits.open_files},
                             Limit{RLIMIT_NPROC, limits.processes, limits.processes},
                             Limit{RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes}}) {
    if (limit.soft == 0) continue;
    if (const int error = lower(limit.resource, limit.soft, limit.hard); error != 0) return error;
  }
  return 0;
}

CpuTimer::CpuTimer(std::uint64_t limit_s) : limit_s_(limit_s) {
  if (limit_s_ == 0) return;
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGXCPU;
  if (::timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer_) != 0)
    throw std::system_error(errno, std::generic_category(), "timer_create");
}

CpuTimer::~CpuTimer() {
  if (limit_s_ != 0) ::timer_delete(timer_);
}

void CpuTimer::set(std::uint64_t seconds) {
  if (limit_s_ == 0) return;
  itimerspec time{};
  time.it_value.tv_sec = static_cast<time_t>(seconds);
  ::timer_settime(timer_, 0, &time, nullptr);
}

int find_user(const std::string& name, ProgramUser& user) {
  if (name.empty()) return 0;
  const passwd* entry = ::getpwnam(name.c_str());
  if (entry == nullptr) return EPERM;
  user.is_other = entry->pw_uid != ::geteuid();
  user.id = entry->pw_uid;
  user.group = entry->pw_gid;
  int count = 32;
  user.groups.resize(static_cast<std::size_t>(count));
  while (::getgrouplist(name.c_str(), user.group, user.groups.data(), &count) < 0)
    user.groups.resize(static_cast<std::size_t>(count));
  user.groups.resize(static_cast<std::size_t>(count));
  return 0;
}

int become_user(const ProgramUser& user) {
  if (!user.is_other) return 0;
  for (int stream = 0; stream < 4; ++stream) {
    struct stat status {};

    if (::fstat(stream, &status) == 0 && S_ISFIFO(status.st_mode))
      (void)!::fchown(stream, user.id, user.group);
  }
  if (::setgroups(user.groups.size(), user.groups.data()) != 0 || ::setgid(user.group) != 0 ||
      ::setuid(user.id) != 0)
    return errno;
  return 0;
}

}  // namespace sluice
