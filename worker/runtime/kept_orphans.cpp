#include "worker/runtime/kept_orphans.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <utility>

#include "worker/runtime/descendants.h"

namespace sluice {

namespace {

constexpr std::size_t kToldMax = 8;

std::string name_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

// Where there are more than it has room for, the last number may be a part of one.
std::vector<pid_t> read_pids(const std::string& text) {
  std::istringstream numbers(text.substr(0, text.rfind(' ') + 1));
  std::vector<pid_t> pids;
  for (pid_t pid = 0; numbers >> pid;)
    pids.push_back(pid);
  return pids;
}

}  // namespace

void KeptOrphans::attach(pid_t program) {
  const std::string keeper = std::to_string(parent_of(program));
  const std::string path = "/proc/" + keeper + "/task/" + keeper + "/children";
  children_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  known_ = {program};
}

std::string KeptOrphans::take_new() {
  std::array<char, 4096> buffer;
  const ssize_t size = ::pread(children_.get(), buffer.data(), buffer.size(), 0);
  std::string text(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  if (text == text_) return {};
  text_ = std::move(text);
  std::string told;
  std::size_t count = 0;
  std::vector<pid_t> now{known_.front()};
  for (const pid_t pid : read_pids(text_)) {
    const bool is_known = std::find(known_.begin(), known_.end(), pid) != known_.end();
    if (pid == now.front()) continue;
    now.push_back(pid);
    const std::string name = is_known ? "" : name_of(pid);
    if (name.empty() || ++count > kToldMax) continue;
    told += "left behind: " + name + " (pid " + std::to_string(pid) +
            "), which lives until this program is replaced\n";
  }
  known_ = std::move(now);
  if (count > kToldMax) told += "left behind: " + std::to_string(count - kToldMax) + " more\n";
  return told;
}

}  // namespace sluice
