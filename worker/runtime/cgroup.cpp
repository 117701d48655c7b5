#include "worker/runtime/cgroup.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/runtime/process_handle.h"

namespace sluice {

namespace {

constexpr std::string_view kPrefix = "sluice-";
constexpr int kTries = 2'000;  // a millisecond each

struct Names {
  const char* limit;
  const char* swap_limit;  // v1: of memory and swap together
  const char* usage;
  const char* peak;
  const char* events;
};

constexpr Names kUnified = {
    "memory.max", "memory.swap.max", "memory.current", "memory.peak", "memory.events"};
constexpr Names kSeparate = {"memory.limit_in_bytes",
                             "memory.memsw.limit_in_bytes",
                             "memory.usage_in_bytes",
                             "memory.max_usage_in_bytes",
                             "memory.oom_control"};

const Names& names_of(bool is_unified) {
  return is_unified ? kUnified : kSeparate;
}

// 0, or an errno.
int put(const UniqueFd& directory, const char* name, std::string_view text) {
  const UniqueFd file(::openat(directory.get(), name, O_WRONLY | O_CLOEXEC));
  if (!file.is_open()) return errno;
  return ::write(file.get(), text.data(), text.size()) < 0 ? errno : 0;
}

std::string take_all(const UniqueFd& file) {
  std::string text;
  std::array<char, 4096> part{};
  ssize_t size = 0;
  while ((size = ::pread(file.get(), part.data(), part.size(), static_cast<off_t>(text.size()))) >
         0)
    text.append(part.data(), static_cast<std::size_t>(size));
  return text;
}

std::string take_file_of(const UniqueFd& directory, const char* name) {
  return take_all(UniqueFd(::openat(directory.get(), name, O_RDONLY | O_CLOEXEC)));
}

std::int64_t to_number(std::string_view text) {
  std::int64_t number = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// Some may be of another pid namespace: they have no number here.
std::vector<pid_t> pids_in(const UniqueFd& directory) {
  std::istringstream lines(take_file_of(directory, "cgroup.procs"));
  std::vector<pid_t> pids;
  for (pid_t pid = 0; lines >> pid;)
    if (pid > 0) pids.push_back(pid);
  return pids;
}

// The number of one that has ended may be a stranger's a moment later: each is held by a descriptor
// first, and then looked for in the group once more.
void kill_each(const UniqueFd& directory) {
  std::vector<std::pair<pid_t, UniqueFd>> held;
  for (const pid_t pid : pids_in(directory))
    held.emplace_back(pid, hold_process(pid));
  const std::vector<pid_t> still = pids_in(directory);
  for (const auto& [pid, fd] : held)
    if (fd.is_open() && std::ranges::find(still, pid) != still.end())
      (void)send_signal(fd, SIGKILL);
}

void kill_all_in(const UniqueFd& directory) {
  if (put(directory, "cgroup.kill", "1") != 0) kill_each(directory);
}

// They take a moment to be gone.
bool empty_out(const UniqueFd& directory) {
  for (int tries = 0; tries < kTries; ++tries) {
    if (pids_in(directory).empty()) return true;
    kill_all_in(directory);
    (void)::poll(nullptr, 0, 1);
  }
  return false;
}

// One whose last process has just ended is busy for a moment.
bool remove_directory(const std::string& path) {
  for (int tries = 0; tries < kTries; ++tries) {
    if (::rmdir(path.c_str()) == 0 || errno == ENOENT) return true;
    if (errno != EBUSY) return false;
    (void)::poll(nullptr, 0, 1);
  }
  return false;
}

bool is_lockable(const UniqueFd& directory) {
  return ::flock(directory.get(), LOCK_EX | LOCK_NB) == 0;
}

UniqueFd open_directory(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

int sweep_below(const std::string& parent) {
  int swept = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(parent, error)) {
    if (!entry.path().filename().string().starts_with(kPrefix)) continue;
    const UniqueFd directory = open_directory(entry.path());
    if (directory.is_open() && is_lockable(directory) && empty_out(directory) &&
        remove_directory(entry.path()))
      ++swept;
  }
  return swept;
}

}  // namespace

// EEXIST where the name was another's, or a sweep took it for one that was left.
int Cgroup::open(const std::string& parent, const std::string& name, Directory& made) {
  made.path = parent + "/" + name;
  if (::mkdir(made.path.c_str(), 0755) != 0) return errno;
  made.directory = open_directory(made.path);
  if (!made.directory.is_open()) return errno == ENOENT ? EEXIST : errno;
  if (!is_lockable(made.directory)) {
    made.directory.reset();
    return EEXIST;
  }
  made.entrance = UniqueFd(::openat(made.directory.get(), "cgroup.procs", O_WRONLY | O_CLOEXEC));
  if (made.entrance.is_open()) return 0;
  return errno == ENOENT || errno == ENODEV ? EEXIST : errno;
}

tl::expected<Cgroup, int> Cgroup::make(const CgroupPlace& place) {
  static std::uint64_t last_number = 0;
  constexpr int kNamesTried = 100;
  int error = EEXIST;
  for (int tries = 0; error == EEXIST && tries < kNamesTried; ++tries) {
    const std::string name =
        std::string(kPrefix) + std::to_string(::getpid()) + "-" + std::to_string(++last_number);
    Cgroup made;
    made.is_unified_ = place.is_unified;
    error = open(place.memory_path, name, made.memory_);
    if (error == 0 && !place.is_unified) error = open(place.processes_path, name, made.processes_);
    if (error != 0) {
      made.remove();
      continue;
    }
    const char* peak = names_of(place.is_unified).peak;
    made.peak_ = UniqueFd(::openat(made.memory_.directory.get(), peak, O_RDWR | O_CLOEXEC));
    return made;
  }
  return tl::unexpected(error);
}

int Cgroup::limit_memory(std::uint64_t bytes) {
  const std::string limit = bytes == 0 ? "-1" : std::to_string(bytes);
  const Names& names = names_of(is_unified_);
  const UniqueFd& directory = memory_.directory;
  // A kernel that counts no swap has no such file.
  const auto put_swap = [&](std::string_view text) {
    const int error = put(directory, names.swap_limit, text);
    return error == ENOENT ? 0 : error;
  };
  if (is_unified_) {
    // All or none: a program whose half was killed is of no use.
    (void)put(directory, "memory.oom.group", bytes == 0 ? "0" : "1");
    const int error = put_swap(bytes == 0 ? "max" : "0");
    return error != 0 ? error : put(directory, names.limit, bytes == 0 ? "max" : limit);
  }
  // That of both may never be below that of memory.
  if (const int error = put_swap("-1"); error != 0) return error;
  const int error = put(directory, names.limit, limit);
  return error != 0 ? error : put_swap(limit);
}

int Cgroup::begin(const CgroupLimits& limits) {
  if (limits.memory_bytes != limits_.memory_bytes)
    if (const int error = limit_memory(limits.memory_bytes); error != 0) return error;
  if (limits.processes != limits_.processes) {
    const UniqueFd& counts = is_unified_ ? memory_.directory : processes_.directory;
    const std::string most = limits.processes == 0 ? "max" : std::to_string(limits.processes);
    if (const int error = put(counts, "pids.max", most); error != 0) return error;
  }
  limits_ = limits;
  killed_before_ = killed_ever();
  const bool is_reset = peak_.is_open() && ::pwrite(peak_.get(), "0", 1, 0) == 1;
  peak_before_ = is_reset ? 0 : peak();
  return 0;
}

int Cgroup::enter() const noexcept {
  for (const int fd : {memory_.entrance.get(), processes_.entrance.get()})
    if (fd >= 0 && ::write(fd, "0", 1) < 0) return errno;
  return 0;
}

std::uint64_t Cgroup::killed_ever() const {
  std::istringstream words(take_file_of(memory_.directory, names_of(is_unified_).events));
  for (std::string name, value; words >> name >> value;)
    if (name == "oom_kill") return static_cast<std::uint64_t>(to_number(value));
  return 0;
}

std::int64_t Cgroup::peak() const {
  return to_number(peak_.is_open() ? take_all(peak_)
                                   : take_file_of(memory_.directory, names_of(is_unified_).peak));
}

CgroupUsage Cgroup::usage() const {
  const std::int64_t peak_bytes = peak();
  return {.memory_bytes_max = peak_bytes > peak_before_ ? peak_bytes : 0,
          .has_run_out = killed_ever() > killed_before_};
}

bool Cgroup::is_worn() const {
  constexpr std::uint64_t kLeftShare = 16;  // of the limit
  const auto left = static_cast<std::uint64_t>(
      to_number(take_file_of(memory_.directory, names_of(is_unified_).usage)));
  return limits_.memory_bytes != 0 && left > limits_.memory_bytes / kLeftShare;
}

void Cgroup::remove() {
  for (const Directory* tree : {&memory_, &processes_})
    if (tree->directory.is_open() && empty_out(tree->directory)) (void)remove_directory(tree->path);
  *this = Cgroup();
}

int sweep_cgroups(const CgroupPlace& place) {
  const int swept = sweep_below(place.memory_path);
  return place.is_unified ? swept : std::max(swept, sweep_below(place.processes_path));
}

}  // namespace sluice
