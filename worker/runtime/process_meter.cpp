#include "worker/runtime/process_meter.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>

namespace sluice {

namespace {

std::int64_t microseconds(const timeval& time) {
  return time.tv_sec * 1'000'000 + time.tv_usec;
}

UniqueFd open_proc(const std::string& process, const char* file, int flags) {
  return UniqueFd(::open(("/proc/" + process + "/" + file).c_str(), flags | O_CLOEXEC));
}

// The peak begins anew with what is resident now.
void clear_peak(const UniqueFd& clear_refs) {
  (void)!::write(clear_refs.get(), "5", 1);
}

using Buffer = std::array<char, 4096>;

// Of a file below /proc, made anew by every read from its beginning. Empty when there is none.
std::string_view read_anew(const UniqueFd& fd, Buffer& buffer) {
  const ssize_t size = ::pread(fd.get(), buffer.data(), buffer.size(), 0);
  return {buffer.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

std::int64_t number_at(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// What stands in /proc/PID/stat, see proc_pid_stat(5).
struct Stat {
  std::int64_t children_ticks = 0;  // CPU time of those that it has waited for
  std::int64_t fault_count = 0;     // pages it asked for
  std::int64_t resident_pages = 0;
};

Stat read_stat(std::string_view text) {
  constexpr int kMinorFaults = 10;
  constexpr int kMajorFaults = 12;
  constexpr int kChildrenUser = 16;
  constexpr int kChildrenSystem = 17;
  constexpr int kResident = 24;
  Stat stat;
  text.remove_prefix(std::min(text.rfind(')'), text.size()));  // its name may have spaces
  for (int field = 3; !text.empty() && field <= kResident; ++field) {
    text.remove_prefix(std::min(text.find(' '), text.size() - 1) + 1);
    if (field == kMinorFaults || field == kMajorFaults) stat.fault_count += number_at(text);
    if (field == kChildrenUser || field == kChildrenSystem) stat.children_ticks += number_at(text);
    if (field == kResident) stat.resident_pages = number_at(text);
  }
  return stat;
}

std::int64_t read_peak_bytes(std::string_view status) {
  constexpr std::string_view kName = "VmHWM:";
  const std::size_t at = status.find(kName);
  return at == std::string_view::npos ? 0 : number_at(status.substr(at + kName.size())) * 1024;
}

}  // namespace

void Spent::add(const Spent& other) {
  cpu_us += other.cpu_us;
  rss_bytes_max = std::max(rss_bytes_max, other.rss_bytes_max);
}

Spent spent_of(const rusage& usage) {
  return {microseconds(usage.ru_utime) + microseconds(usage.ru_stime), usage.ru_maxrss * 1024};
}

PeakMemory::PeakMemory() : clear_refs_(open_proc("self", "clear_refs", O_WRONLY)) {}

void PeakMemory::begin() const {
  clear_peak(clear_refs_);
}

void ProcessMeter::attach(pid_t pid) {
  if (::clock_getcpuclockid(pid, &clock_) != 0) return;
  const std::string process = std::to_string(pid);
  stat_ = open_proc(process, "stat", O_RDONLY);
  status_ = open_proc(process, "status", O_RDONLY);
  clear_refs_ = open_proc(process, "clear_refs", O_WRONLY);
}

void ProcessMeter::begin() {
  if (std::exchange(is_raised_, false)) clear_peak(clear_refs_);
}

// `status` costs three times what `stat` does, and a process that asked for no page since has had
// no more than it has now.
Usage ProcessMeter::lap() {
  Buffer buffer;
  const std::string_view text = read_anew(stat_, buffer);
  timespec own{};
  if (text.empty() || ::clock_gettime(clock_, &own) != 0) return {};
  const Stat stat = read_stat(text);
  static const std::int64_t tick_ms = 1000 / ::sysconf(_SC_CLK_TCK);
  static const std::int64_t page_bytes = ::sysconf(_SC_PAGESIZE);
  const std::int64_t cpu_ms =
      own.tv_sec * 1000 + own.tv_nsec / 1'000'000 + stat.children_ticks * tick_ms;
  Usage usage{cpu_ms - std::exchange(told_cpu_ms_, cpu_ms), stat.resident_pages * page_bytes};
  if (std::exchange(fault_count_, stat.fault_count) != stat.fault_count) {
    is_raised_ = true;
    usage.rss_bytes_max =
        std::max(usage.rss_bytes_max, read_peak_bytes(read_anew(status_, buffer)));
  }
  return usage;
}

}  // namespace sluice
