#include "producer/cli/bulk.h"

#include <fmt/core.h>

#include <deque>
#include <fstream>
#include <iostream>
#include <optional>

#include "producer/cli/job_arguments.h"
#include "producer/cli/text.h"

namespace sluice::cli {

namespace {

// A payload at its bound, escaped in the worst way, and the other keys.
constexpr std::size_t kLineBytesMax = 6 * kPayloadBytesMax + 65'536;

struct Tally {
  std::uint64_t lines = 0, accepted = 0, duplicate = 0, refused = 0, bad = 0;

  [[nodiscard]] bool is_clean() const { return refused == 0 && bad == 0; }
};

// The broker names a field by its place in the message, `jobs[3].priority`; the line is known.
std::string field_of(const Error& error) {
  const auto dot = error.where.find('.');
  return error.where.starts_with("jobs[") && dot != std::string::npos ? error.where.substr(dot + 1)
                                                                      : error.where;
}

void report(const Cli& cli, std::uint64_t line, std::string_view id, const Error& error) {
  const std::string field = field_of(error);
  if (cli.is_json) {
    const Json body = {{"line", line},
                       {"id", id},
                       {"code", to_string(error.code)},
                       {"field", field},
                       {"message", error.detail}};
    fmt::print(stderr, "{}\n", body.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print(stderr,
               "line {}: {}{}\n",
               line,
               field.empty() ? "" : field + ": ",
               printable(error.detail));
  }
}

// getline() with a bound; longer lines are passed over and `is_too_long` is set.
bool read_line(std::istream& in, std::string& line, bool& is_too_long) {
  line.clear();
  is_too_long = false;
  std::streambuf& buffer = *in.rdbuf();
  bool has_any = false;
  for (int c = buffer.sbumpc(); c != EOF; c = buffer.sbumpc()) {
    has_any = true;
    if (c == '\n') return true;
    if (line.size() < kLineBytesMax)
      line.push_back(static_cast<char>(c));
    else
      is_too_long = true;
  }
  return has_any;
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

class Importer {
 public:
  Importer(Cli& cli, const BulkArguments& arguments)
      : cli_(cli),
        arguments_(arguments),
        bulk_(cli.client(), [this](std::uint64_t index, const SubmitResult& result) {
          on_result(index, result);
        }) {}

  int run(std::istream& in) {
    std::string line;
    bool is_too_long = false;
    Answer<void> done;
    while (done && !must_stop() && read_line(in, line, is_too_long)) {
      ++tally_.lines;
      if (is_blank(line)) continue;
      auto job = is_too_long ? Result<JobSpec>(fail(ErrorCode::too_large, "", "is too long"))
                             : job_from_json_line(line);
      if (!job) {
        ++tally_.bad;
        report(cli_, tally_.lines, "", job.error());
        continue;
      }
      lines_.push_back(tally_.lines);
      done = bulk_.add(std::move(*job));
    }
    if (done) done = bulk_.finish();
    return finish(done);
  }

 private:
  [[nodiscard]] bool must_stop() const { return arguments_.stops_at_error && !tally_.is_clean(); }

  // Line numbers are kept for the jobs that have no answer yet; answers come nearly in order.
  std::uint64_t line_of(std::uint64_t index) {
    const std::uint64_t line = lines_[index - first_index_];
    lines_[index - first_index_] = 0;
    while (!lines_.empty() && lines_.front() == 0) {
      lines_.pop_front();
      ++first_index_;
    }
    return line;
  }

  void on_result(std::uint64_t index, const SubmitResult& result) {
    const std::uint64_t line = line_of(index);
    if (result.status == SubmitStatus::accepted) ++tally_.accepted;
    if (result.status == SubmitStatus::duplicate) ++tally_.duplicate;
    if (result.status == SubmitStatus::conflict || result.status == SubmitStatus::rejected) {
      ++tally_.refused;
      report(cli_,
             line,
             result.id,
             result.error.value_or(Error{ErrorCode::conflict, "id", "refused"}));
    }
    const std::uint64_t sum = tally_.accepted + tally_.duplicate + tally_.refused;
    const std::int64_t ms = std::max<std::int64_t>(1, wall_now_ms() - began_ms_);
    progress_->show(
        sum,
        0,
        fmt::format("submitted, {} jobs/s", sum * 1000 / static_cast<std::uint64_t>(ms)));
  }

  int finish(const Answer<void>& done) {
    progress_.reset();
    if (cli_.is_json)
      print_json({{"lines", tally_.lines},
                  {"accepted", tally_.accepted},
                  {"duplicate", tally_.duplicate},
                  {"refused", tally_.refused},
                  {"bad_lines", tally_.bad},
                  {"unanswered", lines_.size()}});
    else
      fmt::print("{} accepted, {} already known, {} refused, {} bad lines, {} without an answer\n",
                 tally_.accepted,
                 tally_.duplicate,
                 tally_.refused,
                 tally_.bad,
                 lines_.size());
    if (!done) return cli_.fail(done.error());
    return tally_.is_clean() ? kExitOk : kExitFailed;
  }

  Cli& cli_;
  const BulkArguments& arguments_;
  Tally tally_;
  std::int64_t began_ms_ = wall_now_ms();
  std::deque<std::uint64_t> lines_;
  std::uint64_t first_index_ = 0;
  std::optional<ProgressLine> progress_{std::in_place};
  BulkSubmit bulk_;
};

}  // namespace

int submit_lines(Cli& cli, const BulkArguments& arguments) {
  std::ios::sync_with_stdio(false);
  std::ifstream file;
  if (arguments.path != "-") {
    file.open(arguments.path);
    if (!file) return cli.fail(kExitUsage, fmt::format("{}: cannot be read", arguments.path));
  }
  std::istream& in = arguments.path == "-" ? std::cin : file;
  return Importer(cli, arguments).run(in);
}

}  // namespace sluice::cli
