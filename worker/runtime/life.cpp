#include "worker/runtime/life.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/limits.h"
#include "worker/runtime/log_line.h"
#include "worker/runtime/process_handle.h"
#include "worker/runtime/unique_fd.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr const char* kMark = "SLUICE_NODE";

std::string marker_of(std::string_view node) {
  return std::string(kMark) + "=" + std::string(node);
}

std::string random_hex() {
  std::uint32_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number)
    throw std::system_error(errno, std::generic_category(), "getrandom");
  std::array<char, 9> text{};
  std::snprintf(text.data(), text.size(), "%08x", number);
  return text.data();
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool carries(const std::string& environment, const std::string& marker) {
  const std::size_t at = environment.find(marker);
  return at != std::string::npos && (at == 0 || environment[at - 1] == '\0') &&
         (at + marker.size() == environment.size() || environment[at + marker.size()] == '\0');
}

// Among what is mapped into a process: "/memfd:MARKER (deleted)" at the end of a line.
bool maps(const fs::path& process, const std::string& marker) {
  std::ifstream file(process / "maps");
  const std::string name = "/memfd:" + marker + " ";
  for (std::string line; std::getline(file, line);)
    if (line.find(name) != std::string::npos) return true;
  return false;
}

// Those that were killed; not open for one that cannot be held, for want of descriptors.
std::vector<UniqueFd> kill_marked(const std::string& marker) {
  std::vector<UniqueFd> killed;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (bad != std::errc{} || end != name.data() + name.size() || pid == ::getpid()) continue;
    UniqueFd held = hold_process(pid);
    const bool is_marked =
        carries(read_file(entry.path() / "environ"), marker) || maps(entry.path(), marker);
    if (!is_marked) continue;
    const int sent = held.is_open() ? send_signal(held, SIGKILL) : ::kill(pid, SIGKILL);
    if (sent == 0) killed.push_back(std::move(held));
  }
  return killed;
}

}  // namespace

Life::Life(std::string node, std::string replaces, int lock_fd)
    : node_(std::move(node)), replaces_(std::move(replaces)), lock_fd_(lock_fd) {}

Life::~Life() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

// What /proc shows of an environment is what the last exec was given. A mapping is inherited by a
// fork, and closing all descriptors does not take it away.
void mark_process(const std::string& node) {
  ::setenv(kMark, node.c_str(), 1);
  const int fd = ::memfd_create(marker_of(node).c_str(), MFD_CLOEXEC);
  if (fd < 0) return;  // without it a sweep finds less
  (void)::mmap(nullptr, 1, PROT_NONE, MAP_PRIVATE, fd, 0);
  ::close(fd);
}

int sweep_processes(std::string_view node) {
  const std::string marker = marker_of(node);
  const std::int64_t give_up_ms = monotonic_ms() + 2'000;
  std::size_t total = 0;
  std::vector<UniqueFd> killed;
  // A process may have forked while we looked: again until nobody is left.
  do {
    killed = kill_marked(marker);
    total += killed.size();
    for (const UniqueFd& process : killed)
      if (process.is_open()) (void)has_ended_by(process, give_up_ms);
  } while (!killed.empty() && monotonic_ms() < give_up_ms);
  return static_cast<int>(total);
}

Life begin_life(std::string_view name, const std::string& state_dir) {
  std::string node = std::string(name) + "@" + random_hex();
  if (state_dir.empty()) return {std::move(node), {}, -1};
  std::error_code error;
  fs::create_directories(state_dir, error);
  const fs::path lock_path = fs::path(state_dir) / "life";
  const int fd = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0)
    throw std::runtime_error("cannot open " + lock_path.string() + ": " + std::strerror(errno));
  const bool is_ours = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
  // Only now: one that ends between a look and the lock may have followed the life that was seen.
  std::string before = read_file(lock_path);
  before = before.substr(0, before.find('\n'));
  if (!is_ours) {
    ::close(fd);
    throw std::runtime_error("the state directory " + state_dir +
                             " belongs to a worker that is running: " + before +
                             ". Stop that one, or give this one a state directory of its own");
  }
  if (!before.empty() && !is_node_id(before)) {
    ::close(fd);
    throw std::runtime_error(lock_path.string() + " holds no node id: is " + state_dir +
                             " a worker's state directory? If so, remove the file and start again");
  }
  if (!before.empty()) {
    if (const int killed = sweep_processes(before); killed > 0)
      log_line(LogLevel::warn,
               "leftovers_killed",
               {{"node", before}, {"processes", std::to_string(killed)}});
  }
  const std::string line = node + "\n";
  // Over what is there: on a full disk the file still names the life before.
  if (::pwrite(fd, line.data(), line.size(), 0) != static_cast<ssize_t>(line.size())) {
    const std::string why = std::strerror(errno);
    ::close(fd);
    throw std::runtime_error("cannot write " + lock_path.string() + ": " + why);
  }
  (void)!::ftruncate(fd, static_cast<off_t>(line.size()));  // the first line is what counts
  return {std::move(node), std::move(before), fd};
}

std::string host_name() {
  std::array<char, 256> text{};
  (void)::gethostname(text.data(), text.size() - 1);
  std::string name = std::string(text.data()).substr(0, kNodeNameBytesMax);
  std::replace_if(
      name.begin(),
      name.end(),
      [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '.';
      },
      '_');
  return name.empty() ? "worker" : name;
}

std::uint32_t cpu_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::uint32_t count = 1;
  if (::sched_getaffinity(0, sizeof set, &set) == 0)
    count = static_cast<std::uint32_t>(std::max(CPU_COUNT(&set), 1));
  // cgroup v2: "max 100000" or "150000 100000".
  std::ifstream quota("/sys/fs/cgroup/cpu.max");
  double limit = 0;
  double period = 0;
  if (quota >> limit >> period && limit > 0 && period > 0)
    count = std::min(count, static_cast<std::uint32_t>(std::ceil(limit / period)));
  return std::clamp<std::uint32_t>(count, 1, kConcurrencyMax);
}

}  // namespace sluice
