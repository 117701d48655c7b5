// Text for people: tables, colours, times, and the progress line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/job.h"

namespace sluice::cli {

// Whether to colour `stdout`: it is a terminal, NO_COLOR is unset or empty, TERM is not dumb.
[[nodiscard]] bool use_colours();
// The word of the state; coloured if `with_colour`.
[[nodiscard]] std::string state_text(JobState state, bool with_colour);

// `2026-11-24 22:41:07.123` in the zone of TZ; also before 1970.
[[nodiscard]] std::string local_time(std::int64_t wall_ms);
// `350 ms`, `12.3 s`, `4 min 10 s`, `3 h 5 min`, `2 d 4 h`.
[[nodiscard]] std::string span_text(std::int64_t span_ms);
// `512 B`, `34 KiB`, `1.5 GiB`: a decimal below ten.
[[nodiscard]] std::string bytes_text(std::int64_t bytes);
// `12.3 s ago`, `in 5 min 0 s`.
[[nodiscard]] std::string relative_time(std::int64_t wall_ms, std::int64_t now_ms);

// To stderr. Where it cannot be written nobody is told: the exit status says enough.
void print_error(std::string_view text);

// Columns aligned to their widest cell (escape sequences have no width). A column whose header
// begins with '>' is aligned to the right. The header is bold if `with_colour`.
class Table {
 public:
  explicit Table(std::vector<std::string> headers) : headers_(std::move(headers)) {}

  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  [[nodiscard]] bool empty() const { return rows_.empty(); }

  [[nodiscard]] std::string str(bool with_colour) const;

 private:
  std::vector<std::string> headers_;
  std::vector<std::vector<std::string>> rows_;
};

// As much of `text` as a line of so many columns takes without going on in the next (which could
// not be drawn over); 0: not known, all of it. A character of several bytes is whole or left out,
// and counts by its bytes.
[[nodiscard]] std::string_view within_line(std::string_view text, std::size_t columns);

// A line on stderr that is drawn over itself; silent when stderr is no terminal.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // At most 20 times a second: ask before making the text.
  [[nodiscard]] bool is_due() const;
  void show(std::string_view text);

  // Whether anybody sees it.
  [[nodiscard]] bool is_terminal() const { return is_terminal_; }

  // Takes the line away, so that another text may be written to stderr.
  void clear();

 private:
  bool is_terminal_;
  bool is_drawn_ = false;
  std::int64_t drawn_ms_ = 0;
};

// `[#####....]  50 %`, of a total that is not 0.
[[nodiscard]] std::string progress_bar(std::uint64_t done, std::uint64_t total);

}  // namespace sluice::cli
