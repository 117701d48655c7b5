#include "producer/cli/bulk.h"

#include <fmt/core.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <utility>

#include "common/clock.h"
#include "common/refusal.h"
#include "common/utf8.h"
#include "producer/cli/job_arguments.h"
#include "producer/cli/text.h"

namespace sluice::cli {

namespace {

// A payload at its bound, escaped in the worst way, and the other keys.
constexpr std::size_t kLineBytesMax = 6 * kPayloadBytesMax + 65'536;

struct Tally {
  std::uint64_t lines = 0, accepted = 0, duplicate = 0, refused = 0, bad = 0;
  std::uint64_t refused_for_now = 0;  // of the refused

  [[nodiscard]] std::uint64_t answered() const { return accepted + duplicate + refused; }

  [[nodiscard]] bool is_clean() const { return refused == 0 && bad == 0; }

  [[nodiscard]] int exit_code() const {
    if (is_clean()) return kExitOk;
    return bad == 0 && refused == refused_for_now ? kExitTryAgain : kExitFailed;
  }
};

void report(const Cli& cli, std::uint64_t line, std::string_view id, const Error& error) {
  const std::string field = field_of_job(error);
  if (cli.is_json) {
    const Json body = {{"line", line},
                       {"id", id},
                       {"code", to_string(error.code)},
                       {"field", field},
                       {"message", error.detail}};
    print_error(body.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  } else {
    print_error(fmt::format("line {}: {}{}\n",
                            line,
                            field.empty() ? "" : printable(field) + ": ",
                            printable(error.detail)));
  }
}

struct Line {
  std::string text;
  bool is_too_long = false;  // more than kLineBytesMax; the rest was passed over
  std::uint64_t bytes = 0;
};

// getline() with a bound.
bool read_line(std::istream& in, Line& line) {
  line.text.clear();
  line.is_too_long = false;
  line.bytes = 0;
  std::streambuf& buffer = *in.rdbuf();
  for (int c = buffer.sbumpc(); c != EOF; c = buffer.sbumpc()) {
    ++line.bytes;
    if (c == '\n') return true;
    if (line.text.size() < kLineBytesMax)
      line.text.push_back(static_cast<char>(c));
    else
      line.is_too_long = true;
  }
  return line.bytes != 0;
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

// How far a file was read, and what became of its lines.
class Display {
 public:
  // `bytes_total` 0: not known, as of a pipe.
  explicit Display(std::uint64_t bytes_total) : bytes_total_(bytes_total) {}

  void count(const Line& line) { bytes_ += line.bytes; }

  void show(const Tally& tally, bool is_last = false) {
    if (!is_last && !line_.is_due()) return;
    const std::int64_t ms = std::max<std::int64_t>(1, wall_clock_ms() - began_ms_);
    const std::uint64_t rate = tally.answered() * 1000 / static_cast<std::uint64_t>(ms);
    std::string text = bytes_total_ == 0 ? "" : progress_bar(bytes_, bytes_total_) + "  ";
    text += fmt::format("{} submitted", tally.answered());
    if (waits_for_.empty()) text += fmt::format(", {} jobs/s", rate);
    if (!tally.is_clean()) text += fmt::format(", {} not taken", tally.refused + tally.bad);
    if (!waits_for_.empty())
      text += "; waiting: " + waits_for_;
    else if (bytes_total_ > bytes_ && bytes_ != 0 && ms > 1000)
      text += fmt::format(", {} left",
                          span_text(static_cast<std::int64_t>(
                              static_cast<double>(ms) * static_cast<double>(bytes_total_ - bytes_) /
                              static_cast<double>(bytes_))));
    line_.show(text);
  }

  // Why nothing goes on; empty when it does.
  void wait_for(std::string why) { waits_for_ = std::move(why); }

  [[nodiscard]] bool is_seen() const { return line_.is_terminal(); }

  void clear() { line_.clear(); }

 private:
  std::uint64_t bytes_total_;
  std::uint64_t bytes_ = 0;
  std::int64_t began_ms_ = wall_clock_ms();
  std::string waits_for_;
  ProgressLine line_;
};

class Importer {
 public:
  Importer(Cli& cli, const BulkArguments& arguments, std::uint64_t bytes_total)
      : cli_(cli),
        arguments_(arguments),
        display_(std::in_place, bytes_total),
        bulk_(
            cli.client(),
            [this](std::uint64_t index, const SubmitResult& result) { on_result(index, result); },
            [this](const Error& why) { on_waiting(why); }) {}

  int run(std::istream& in) {
    Line line;
    Answer<void> done;
    while (done && !must_stop() && read_line(in, line)) {
      ++tally_.lines;
      display_->count(line);
      if (!line.is_too_long && is_blank(line.text)) continue;
      auto job = line.is_too_long ? Result<JobSpec>(fail(ErrorCode::too_large, "", "is too long"))
                                  : job_from_json_line(line.text);
      if (!job) {
        ++tally_.bad;
        display_->clear();
        report(cli_, tally_.lines, "", job.error());
        continue;
      }
      open_.push_back({tally_.lines, job->id.empty()});
      done = bulk_.add(std::move(*job));
    }
    if (done) done = bulk_.finish();
    return finish(done);
  }

 private:
  // A job that has no answer yet; answers come nearly in order.
  struct Open {
    std::uint64_t line = 0;  // 0: it is answered
    bool is_id_made = false;
  };

  [[nodiscard]] bool must_stop() const { return arguments_.stops_at_error && !tally_.is_clean(); }

  Open take_open(std::uint64_t index) {
    const Open open = std::exchange(open_[index - first_index_], {});
    while (!open_.empty() && open_.front().line == 0) {
      open_.pop_front();
      ++first_index_;
    }
    return open;
  }

  void on_result(std::uint64_t index, const SubmitResult& result) {
    const Open open = take_open(index);
    display_->wait_for("");
    // An id made here can be known to the broker only from a message that we had to send again.
    const bool is_ours = result.status == SubmitStatus::duplicate && open.is_id_made;
    if (result.status == SubmitStatus::accepted || is_ours) {
      ++tally_.accepted;
    } else if (result.status == SubmitStatus::duplicate) {
      ++tally_.duplicate;
    } else {
      const Error error = result.error.value_or(Error{ErrorCode::conflict, "id", "refused"});
      ++tally_.refused;
      if (is_retryable(error.code)) ++tally_.refused_for_now;
      display_->clear();
      report(cli_, open.line, result.id, error);
    }
    display_->show(tally_);
  }

  void on_waiting(const Error& why) {
    display_->wait_for(why.detail);
    display_->show(tally_);
    if (!display_->is_seen() && !std::exchange(has_said_waiting_, true))
      cli_.warn("the broker takes nothing just now, and is asked again for a while; it says: " +
                why.detail);
  }

  int finish(const Answer<void>& done) {
    display_->show(tally_, true);
    display_.reset();
    if (cli_.is_json)
      print_json({{"lines", tally_.lines},
                  {"accepted", tally_.accepted},
                  {"duplicate", tally_.duplicate},
                  {"refused", tally_.refused},
                  {"bad_lines", tally_.bad},
                  {"unanswered", open_.size()}});
    else
      fmt::print("{} accepted, {} already known, {} refused, {} bad lines, {} without an answer\n",
                 tally_.accepted,
                 tally_.duplicate,
                 tally_.refused,
                 tally_.bad,
                 open_.size());
    if (!done && !open_.empty())
      cli_.warn(
          "those without an answer may have been taken, see `sluice list`: sent again, lines with "
          "an "
          "\"id\" are not taken twice, the others are");
    if (!done) return cli_.fail(done.error());
    return tally_.exit_code();
  }

  Cli& cli_;
  const BulkArguments& arguments_;
  Tally tally_;
  std::deque<Open> open_;
  std::uint64_t first_index_ = 0;
  bool has_said_waiting_ = false;
  std::optional<Display> display_;
  BulkSubmit bulk_;
};

// 0 for what is no regular file.
std::uint64_t size_of(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  return error ? 0 : size;
}

}  // namespace

int submit_lines(Cli& cli, const BulkArguments& arguments) {
  const bool is_stdin = arguments.path == "-";
  std::ifstream file;
  if (!is_stdin) {
    file.open(arguments.path);
    if (!file) return cli.fail(kExitUsage, fmt::format("{}: cannot be read", arguments.path));
  }
  std::istream& in = is_stdin ? std::cin : file;
  try {
    return Importer(cli, arguments, is_stdin ? 0 : size_of(arguments.path)).run(in);
  } catch (const std::ios_base::failure&) {
    return cli.fail(kExitUsage,
                    fmt::format("{}: cannot be read; is it a directory?", arguments.path));
  }
}

}  // namespace sluice::cli
