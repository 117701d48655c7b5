// `sluice logs`.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <system_error>

#include "common/clock.h"
#include "common/utf8.h"
#include "producer/cli/cli.h"
#include "producer/cli/show.h"
#include "producer/cli/text.h"
#include "producer/event_stream.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

// Between two questions of one who follows: soon after there was something, then less often; less
// still where pieces come as events, and only the job's end, and what was lost, is asked for.
constexpr std::int64_t kAskAgainMs = 100;
constexpr std::int64_t kAskAgainMaxMs = 500;
constexpr std::int64_t kAskAgainBesideEventsMaxMs = 2000;

struct LogArguments {
  std::string id;
  std::string events;
  bool is_followed = false;
  std::uint32_t attempt = 0;  // 0 = all
};

// What is printed is flushed, and nothing else is under way that must not break off.
void leave_at_once_on_signals() {
  struct sigaction action {};

  action.sa_handler = [](int) {
    ::_exit(kExitOk);
  };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

class LogPrinter {
 public:
  LogPrinter(Cli& cli, const LogArguments& arguments)
      : cli_(cli), arguments_(arguments), id_(id_arguments({arguments.id}).front()) {}

  int run() {
    if (arguments_.is_followed) {
      leave_at_once_on_signals();
      events_ = open_events(arguments_.events, {"log." + arguments_.id});
    }
    while (true) {
      auto page = cli_.client().logs(id_, from_);
      if (!page) {
        if (!is_to_be_outlived(page.error())) return end(page.error());
        tell_of_outage(page.error());
        listen(kAskAgainMaxMs);
        continue;
      }
      if (std::exchange(is_away_, false)) cli_.warn("the broker is back");
      is_known_ = true;
      show(page->chunks);
      from_ = page->next;
      if (page->next < page->size) continue;
      if (!arguments_.is_followed || is_ended(page->state)) return kExitOk;
      pause_ms_ = page->chunks.empty() ? std::min(pause_ms_ * 3 / 2, pause_max_ms()) : kAskAgainMs;
      listen(pause_ms_);
    }
  }

 private:
  [[nodiscard]] std::int64_t pause_max_ms() const {
    return events_->is_up() ? kAskAgainBesideEventsMaxMs : kAskAgainMaxMs;
  }

  // Shows what comes as events, which may be nothing: until it is time to ask, or one before them
  // was lost.
  void listen(std::int64_t pause_ms) {
    const std::int64_t until_ms = monotonic_ms() + pause_ms;
    for (std::int64_t left_ms = pause_ms; left_ms > 0; left_ms = until_ms - monotonic_ms()) {
      const auto event = events_->next(left_ms);
      const auto* log = event ? std::get_if<LogEvent>(&event->event) : nullptr;
      if (log == nullptr || log->id != id_ || log->chunk.offset < from_) continue;
      if (log->chunk.offset > from_) return;
      show({log->chunk});
      pause_ms_ = kAskAgainMs;
    }
  }

  // Of one who follows: once it has begun, a broker or a Redis that is away is waited for.
  [[nodiscard]] bool is_to_be_outlived(const ClientError& error) const {
    return arguments_.is_followed && is_known_ && error.is_retryable;
  }

  void tell_of_outage(const ClientError& error) {
    if (!std::exchange(is_away_, true)) cli_.warn(error.message() + "; waiting for it");
  }

  int end(const ClientError& error) const {
    if (!is_known_ || error.error.code != ErrorCode::not_found) return cli_.fail(error, id_.view());
    cli_.warn("the job was removed, and its log with it");
    return kExitOk;
  }

  void show(const std::vector<LogChunk>& chunks) {
    for (const LogChunk& chunk : chunks) {
      if (chunk.offset > from_)
        cli_.warn(fmt::format("{} bytes before this are not kept any more", chunk.offset - from_));
      from_ = chunk.offset + chunk.bytes.size();
      if (arguments_.attempt == 0 || chunk.attempt == arguments_.attempt) print(chunk);
    }
    if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category());
  }

  void print(const LogChunk& chunk) const {
    if (cli_.is_json) return print_json(log_chunk_to_json(chunk));
    const std::string text = is_terminal_ ? printable(chunk.bytes) : chunk.bytes;
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
      throw std::system_error(errno, std::generic_category());
  }

  Cli& cli_;
  const LogArguments& arguments_;
  const JobId id_;
  std::unique_ptr<EventStream> events_;  // of one who follows
  const bool is_terminal_ = ::isatty(STDOUT_FILENO) == 1;
  std::uint64_t from_ = 0;
  std::int64_t pause_ms_ = kAskAgainMs;
  bool is_known_ = false;  // it was answered once
  bool is_away_ = false;
};

}  // namespace

void add_logs(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("logs", "Show what a job's attempts have logged");
  auto arguments = std::make_shared<LogArguments>();
  command->add_option("ID", arguments->id, "id of a job")->type_name("")->required();
  command->add_flag("--follow,-f",
                    arguments->is_followed,
                    "go on with what comes, until the job has ended");
  add_events_option(*command, arguments->events);
  command->add_option("--attempt", arguments->attempt, "only what this attempt has logged")
      ->type_name("N")
      ->check(CLI::PositiveNumber.description(""));
  set_footer(
      *command,
      "Examples:\n  sluice logs 0192f1c4-...\n  sluice logs -f $(sluice submit import @data.csv)\n"
      "  sluice logs ID --attempt 2 | grep -i error\n  sluice logs ID --json | jq -r .text\n\n"
      "A log is what a program writes to its standard error, and a handler by Task::log. The "
      "newest "
      "1 MiB of it\nis kept, as long as the job; of more at once than can be sent, a line says how "
      "much is missing.\n"
      "--follow outlives a broker that is restarted: what comes meanwhile is shown then. Where the "
      "events port is\nnot to be reached, it asks twice a second.\n"
      "--json is one object per piece: offset (of its first byte in all that was logged), attempt, "
      "at_ms\n(milliseconds since 1970-01-01T00:00:00Z), and text, or base64 of what is no UTF-8.\n"
      "On a terminal control characters are shown as \\xNN; into a pipe all bytes go as they are.\n"
      "Exit status: 0 shown, however the job ended, or left by Ctrl-C; 4 the job is not known.");
  command->callback([&cli, arguments] { cli.exit_code = LogPrinter(cli, *arguments).run(); });
}

}  // namespace sluice::cli
