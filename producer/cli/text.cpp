#include "producer/cli/text.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "common/clock.h"
#include "common/utf8.h"

namespace sluice::cli {

namespace {

constexpr std::string_view kBold = "\x1b[1m";
constexpr std::string_view kReset = "\x1b[0m";
constexpr std::int64_t kDrawEveryMs = 50;

std::string_view colour_of(JobState state) {
  switch (state) {
    case JobState::completed:
      return "\x1b[32m";
    case JobState::failed:
      return "\x1b[31m";
    case JobState::cancelled:
      return "\x1b[33m";
    case JobState::running:
      return "\x1b[36m";
    default:
      return "";
  }
}

// Characters on the screen: UTF-8 continuation bytes and escape sequences have no width.
std::size_t width_of(std::string_view text) {
  std::size_t width = 0;
  bool is_escape = false;
  for (const char c : text) {
    if (c == '\x1b') is_escape = true;
    if (!is_escape && (static_cast<unsigned char>(c) & 0xc0) != 0x80) ++width;
    if (is_escape && c == 'm') is_escape = false;
  }
  return width;
}

bool is_dumb_terminal() {
  const char* no_colour = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe)
  const char* term = std::getenv("TERM");           // NOLINT(concurrency-mt-unsafe)
  return (no_colour != nullptr && *no_colour != '\0') || term == nullptr ||
         std::string_view(term) == "dumb";
}

std::size_t terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

}  // namespace

bool use_colours() {
  return isatty(STDOUT_FILENO) == 1 && !is_dumb_terminal();
}

std::string state_text(JobState state, bool with_colour) {
  const std::string_view colour = with_colour ? colour_of(state) : "";
  if (colour.empty()) return std::string(to_string(state));
  return fmt::format("{}{}{}", colour, to_string(state), kReset);
}

std::string local_time(std::int64_t wall_ms) {
  const std::int64_t ms = (wall_ms % 1000 + 1000) % 1000;
  const std::time_t seconds = wall_ms / 1000 - (wall_ms % 1000 < 0 ? 1 : 0);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return fmt::format("{}.{:03}", text, ms);
}

std::string span_text(std::int64_t span_ms) {
  if (span_ms < 1000) return fmt::format("{} ms", span_ms);
  if (span_ms < 60'000) return fmt::format("{}.{} s", span_ms / 1000, span_ms % 1000 / 100);
  const std::int64_t minutes = span_ms / 60'000;
  if (minutes < 60) return fmt::format("{} min {} s", minutes, span_ms / 1000 % 60);
  const std::int64_t hours = minutes / 60;
  if (hours < 48) return fmt::format("{} h {} min", hours, minutes % 60);
  return fmt::format("{} d {} h", hours / 24, hours % 24);
}

std::string bytes_text(std::int64_t bytes) {
  constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  auto amount = static_cast<double>(bytes);
  std::size_t unit = 0;
  // What would be written as 1024 of one is 1.0 of the next.
  while (amount >= 1023.5 && unit + 1 < kUnits.size()) {
    amount /= 1024;
    ++unit;
  }
  return amount < 9.95 ? fmt::format("{:.1f} {}", amount, kUnits[unit])
                       : fmt::format("{:.0f} {}", amount, kUnits[unit]);
}

std::string relative_time(std::int64_t wall_ms, std::int64_t now_ms) {
  return wall_ms <= now_ms ? span_text(now_ms - wall_ms) + " ago"
                           : "in " + span_text(wall_ms - now_ms);
}

void print_error(std::string_view text) {
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
}

std::string Table::str(bool with_colour) const {
  std::vector<std::string> titles = headers_;
  std::vector<bool> is_right(titles.size());
  std::vector<std::size_t> widths(titles.size());
  for (std::size_t i = 0; i < titles.size(); ++i) {
    is_right[i] = titles[i].starts_with('>');
    if (is_right[i]) titles[i].erase(0, 1);
    widths[i] = width_of(titles[i]);
    for (const auto& row : rows_)
      widths[i] = std::max(widths[i], width_of(row.at(i)));
  }
  std::string out;
  const auto add_line = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string pad(widths[i] - width_of(cells[i]), ' ');
      line += (i == 0 ? "" : "  ") + (is_right[i] ? pad + cells[i] : cells[i] + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return line;
  };
  const std::string header = add_line(titles);
  out += with_colour ? fmt::format("{}{}{}\n", kBold, header, kReset) : header + "\n";
  for (const auto& row : rows_)
    out += add_line(row) + "\n";
  return out;
}

std::string_view within_line(std::string_view text, std::size_t columns) {
  if (columns == 0 || text.size() < columns) return text;
  return utf8_head(text, columns - 1);
}

ProgressLine::ProgressLine() : is_terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (is_drawn_) print_error("\n");
}

bool ProgressLine::is_due() const {
  return is_terminal_ && wall_clock_ms() - drawn_ms_ >= kDrawEveryMs;
}

void ProgressLine::show(std::string_view text) {
  if (!is_terminal_) return;
  text = within_line(text, terminal_columns());
  drawn_ms_ = wall_clock_ms();
  is_drawn_ = true;
  print_error(fmt::format("\r\x1b[K{}", text));
  std::fflush(stderr);
}

void ProgressLine::clear() {
  if (!std::exchange(is_drawn_, false)) return;
  drawn_ms_ = 0;
  print_error("\r\x1b[K");
}

std::string progress_bar(std::uint64_t done, std::uint64_t total) {
  constexpr std::uint64_t kWidth = 30;
  done = std::min(done, total);
  const std::uint64_t filled = done * kWidth / total;
  return fmt::format("[{}{}] {:3} %",
                     std::string(filled, '#'),
                     std::string(kWidth - filled, '.'),
                     done * 100 / total);
}

}  // namespace sluice::cli
