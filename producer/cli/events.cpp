// `sluice events`.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <memory>
#include <stdexcept>
#include <string_view>

#include "common/address.h"
#include "common/clock.h"
#include "common/utf8.h"
#include "producer/cli/cli.h"
#include "producer/cli/show.h"
#include "producer/cli/text.h"
#include "producer/connection.h"
#include "producer/event_stream.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

struct EventArguments {
  std::string address;
  std::vector<std::string> topics;
  std::uint64_t count = 0;  // 0 = until Ctrl-C
};

// The topics of PROTOCOL.md, Events; behind one of a job stands its queue, behind `log.` an id.
constexpr std::array<std::string_view, 13> kTopics{"job.queued.",
                                                   "job.started.",
                                                   "job.progress.",
                                                   "job.retrying.",
                                                   "job.completed.",
                                                   "job.failed.",
                                                   "job.cancelled.",
                                                   "job.requeued.",
                                                   "node.joined",
                                                   "node.left",
                                                   "node.dead",
                                                   "node.draining",
                                                   "log."};

// Whether a topic may begin so: any other would be waited for in vain.
bool is_beginning_of_topic(std::string_view text) {
  return std::any_of(kTopics.begin(), kTopics.end(), [text](std::string_view topic) {
    return topic.starts_with(text) || (topic.ends_with('.') && text.starts_with(topic));
  });
}

volatile std::sig_atomic_t is_interrupted = 0;

Json log_event_to_json(const LogEvent& log) {
  Json json = {{"event", "log"}, {"id", log.id.view()}};
  json.update(log_chunk_to_json(log.chunk));
  return json;
}

Json event_to_json(const SequencedEvent& event) {
  if (const auto* node = std::get_if<NodeEvent>(&event.event))
    return {{"event", "node." + node->what},
            {"node", node->node},
            {"at_ms", node->at_ms},
            {"sequence", event.sequence}};
  if (const auto* log = std::get_if<LogEvent>(&event.event)) return log_event_to_json(*log);
  const auto& job = std::get<JobEvent>(event.event);
  return {{"event", "job." + job.what},
          {"id", job.id.view()},
          {"queue", job.queue},
          {"task", job.task},
          {"node", job.node},
          {"attempt", job.attempt},
          {"retry_count", job.retry_count},
          {"percent", job.percent},
          {"error_code", job.error_code},
          {"at_ms", job.at_ms},
          {"sequence", event.sequence}};
}

std::string to_text(const SequencedEvent& event) {
  if (const auto* node = std::get_if<NodeEvent>(&event.event))
    return fmt::format("{}  node {:<10} {}", local_time(node->at_ms), node->what, node->node);
  if (const auto* log = std::get_if<LogEvent>(&event.event)) {
    std::string_view bytes = log->chunk.bytes;
    if (bytes.ends_with('\n')) bytes.remove_suffix(1);
    return printable(fmt::format("{}  log  {}  attempt {}  {}",
                                 local_time(log->chunk.at_ms),
                                 log->id.view(),
                                 log->chunk.attempt,
                                 bytes));
  }
  const auto& job = std::get<JobEvent>(event.event);
  std::string line = fmt::format("{}  job  {:<10} {}  {}/{}",
                                 local_time(job.at_ms),
                                 job.what,
                                 job.id.view(),
                                 job.queue,
                                 job.task);
  if (job.attempt != 0) line += fmt::format("  attempt {}", job.attempt);
  if (!job.node.empty()) line += "  on " + job.node;
  if (job.what == "progress") line += fmt::format("  {} %", job.percent);
  if (!job.error_code.empty()) line += "  " + job.error_code;
  return printable(line);
}

void leave_on_signals() {
  struct sigaction action {};

  action.sa_handler = [](int) {
    is_interrupted = 1;
  };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

class Watcher {
 public:
  Watcher(Cli& cli, const EventArguments& arguments, EventStream& stream)
      : cli_(cli), arguments_(arguments), stream_(stream) {
    if (cli.has_timeout()) silence_ms_max_ = duration_option("--timeout", cli.timeout);
  }

  int run() {
    std::uint64_t seen = 0;
    while (is_interrupted == 0 && (arguments_.count == 0 || seen < arguments_.count)) {
      const std::int64_t left_ms = heard_ms_ + silence_ms_max_ - monotonic_ms();
      if (left_ms <= 0)
        return cli_.fail(kExitTimeout,
                         fmt::format("no event within {}; the broker at {} is {}",
                                     cli_.timeout,
                                     arguments_.address,
                                     stream_.is_up() ? "there" : "away"));
      const auto event = stream_.next(std::min<std::int64_t>(left_ms, 1000));
      tell_of_connection();
      if (!event) continue;
      heard_ms_ = monotonic_ms();
      ++seen;
      if (!print(*event)) break;  // the reader is gone
    }
    return kExitOk;
  }

 private:
  void tell_of_connection() {
    if (stream_.lost_count() != lost_count_) {
      lost_count_ = stream_.lost_count();
      last_ = 0;
      is_away_ = true;
      cli_.warn(fmt::format("the broker at {} went away; waiting for it to come back",
                            arguments_.address));
    }
    if (is_away_ && stream_.is_up()) {
      is_away_ = false;
      cli_.warn("the broker is back; what happened in between is not shown");
    }
  }

  bool print(const SequencedEvent& event) {
    if (arguments_.topics.empty() && last_ != 0 && event.sequence > last_ + 1)
      cli_.warn(fmt::format("{} events were missed", event.sequence - last_ - 1));
    last_ = event.sequence;
    if (cli_.is_json)
      print_json(event_to_json(event));
    else
      fmt::print("{}\n", to_text(event));
    return std::fflush(stdout) == 0;
  }

  Cli& cli_;
  const EventArguments& arguments_;
  EventStream& stream_;
  std::int64_t silence_ms_max_ = kTenYearsMs;
  std::int64_t heard_ms_ = monotonic_ms();
  std::uint64_t last_ = 0;
  std::uint64_t lost_count_ = 0;
  bool is_away_ = false;
};

int watch(Cli& cli, const EventArguments& arguments) {
  for (const std::string& topic : arguments.topics)
    if (!is_beginning_of_topic(topic))
      throw CLI::ValidationError(
          "TOPIC",
          fmt::format("no event begins with '{}'; there are {}", topic, fmt::join(kTopics, " ")));
  const auto stream = open_events(arguments.address, arguments.topics);
  const bool is_up = stream->wait_until_up(cli.timeout_ms());
  if (!is_up && stream->is_accepted())
    return cli.fail(kExitTimeout,
                    fmt::format("what listens at {} accepts the connection and says nothing; if it "
                                "is the broker, it is stopped or hangs",
                                arguments.address));
  if (!is_up)
    return cli.fail(kExitUnavailable,
                    fmt::format("nobody publishes events at {}; start a broker "
                                "with `sluice-broker`, or name its events port "
                                "with --events",
                                arguments.address));
  leave_on_signals();
  return Watcher(cli, arguments, *stream).run();
}

}  // namespace

void add_events_option(CLI::App& command, std::string& address) {
  address = "tcp://127.0.0.1:7713";
  command.add_option("--events", address, "address of the broker's events port")
      ->type_name("ADDRESS")
      ->envname("SLUICE_EVENTS")
      ->capture_default_str();
}

std::unique_ptr<EventStream> open_events(const std::string& address,
                                         const std::vector<std::string>& topics) {
  const CLI::ValidationError no_address("--events", "is no address; write tcp://HOST:PORT");
  if (!is_address(address, AddressUse::connect)) throw no_address;
  try {
    return std::make_unique<EventStream>(address, topics);
  } catch (const std::runtime_error&) {
    throw no_address;
  }
}

void add_events(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("events", "Watch what happens, as it happens");
  auto arguments = std::make_shared<EventArguments>();
  command
      ->add_option("TOPIC",
                   arguments->topics,
                   "only topics that begin so: job.failed, job.completed.mail, node")
      ->type_name("");
  add_events_option(*command, arguments->address);
  command->add_option("--count,-n", arguments->count, "leave after so many events")
      ->type_name("N")
      ->check(CLI::PositiveNumber.description(""));
  set_footer(
      *command,
      "Examples:\n  sluice events\n  sluice events job.failed --json\n"
      "  sluice events job.completed.mail node\n"
      "  sluice events job.failed --count 1 --timeout 1h\n\n"
      "For watching, never for correctness: a slow watcher loses events and is told, and so it is "
      "when the\nbroker goes away and comes back. --timeout, when given, is also the longest time "
      "without an event.\n"
      "Times are local; in JSON at_ms is in milliseconds since 1970-01-01T00:00:00Z.\n"
      "Exit status: 0 left after --count events or by Ctrl-C, 124 no event within --timeout.");
  command->callback([&cli, arguments] { cli.exit_code = watch(cli, *arguments); });
}

}  // namespace sluice::cli
