// `sluice queues`, `pause`, `resume` and `purge`.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "producer/cli/cli.h"
#include "producer/cli/text.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

Json queue_to_json(const QueueInfo& queue) {
  return {{"queue", queue.queue},
          {"paused", queue.paused},
          {"pending", queue.pending},
          {"queued", queue.queued},
          {"running", queue.running},
          {"completed", queue.completed},
          {"failed", queue.failed},
          {"cancelled", queue.cancelled},
          {"submitted", queue.submitted},
          {"retried", queue.retried},
          {"lost", queue.lost},
          {"oldest_queued_ms", queue.oldest_queued_ms},
          {"completed_per_s", queue.completed_per_s}};
}

int queues(Cli& cli) {
  auto answer = cli.client().queues();
  if (!answer) return cli.fail(answer.error());
  if (cli.is_json) {
    Json all = Json::array();
    for (const QueueInfo& queue : answer->queues)
      all.push_back(queue_to_json(queue));
    print_json({{"queues", std::move(all)}});
    return kExitOk;
  }
  Table table({"queue",
               ">pending",
               ">queued",
               ">running",
               ">completed",
               ">failed",
               ">cancelled",
               ">retried",
               ">lost",
               ">done/s",
               ">oldest waits",
               ""});
  const auto text = [](std::uint64_t number) {
    return std::to_string(number);
  };
  for (const QueueInfo& queue : answer->queues)
    table.add({queue.queue,
               text(queue.pending),
               text(queue.queued),
               text(queue.running),
               text(queue.completed),
               text(queue.failed),
               text(queue.cancelled),
               text(queue.retried),
               text(queue.lost),
               fmt::format("{:.1f}", queue.completed_per_s),
               queue.queued == 0 ? "-" : span_text(queue.oldest_queued_ms),
               queue.paused ? "paused" : ""});
  fmt::print("{}", table.empty() ? "no queue yet: submit a job\n" : table.str(use_colours()));
  return kExitOk;
}

// A pause makes its queue, which may be meant for jobs to come, or a typing error.
Answer<Done> pause(Cli& cli, const std::string& queue) {
  const auto before = cli.client().queues();
  if (!before) return tl::unexpected(before.error());
  auto done = cli.client().pause(queue);
  std::vector<std::string> names;
  for (const QueueInfo& info : before->queues)
    names.push_back(info.queue);
  if (done && std::find(names.begin(), names.end(), queue) == names.end())
    cli.warn(fmt::format("no job was ever in '{}'; it is paused for those to come. Queues: {}",
                         queue,
                         names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "))));
  return done;
}

Answer<Done> resume(Cli& cli, const std::string& queue) {
  return cli.client().resume(queue);
}

Answer<Done> purge(Cli& cli, const std::string& queue) {
  return cli.client().purge(queue);
}

using Act = Answer<Done> (*)(Cli& cli, const std::string& queue);

void add_act(
    CLI::App& app, Cli& cli, const char* name, const char* purpose, const char* footer, Act act) {
  auto* command = app.add_subcommand(name, purpose);
  set_footer(*command, footer);
  auto queue = std::make_shared<std::string>();
  command->add_option("QUEUE", *queue, "name of the queue")->type_name("")->required();
  command->callback([&cli, queue, act] {
    auto done = act(cli, *queue);
    if (!done) {
      cli.exit_code = cli.fail(done.error());
    } else if (cli.is_json) {
      print_json({{"queue", *queue}, {"done", done->op}, {"count", done->count}});
    } else if (done->op == "purged") {
      fmt::print("{}: {} waiting jobs cancelled\n", *queue, done->count);
    } else {
      fmt::print("{}: {}\n", *queue, done->op);
    }
  });
}

}  // namespace

void add_queues(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("queues", "Depth, totals and rate of every queue");
  set_footer(*command,
             "Examples:\n  sluice queues\n"
             "  sluice queues --json | jq '.queues[] | select(.queued > 1000) | .queue'\n\n"
             "pending, queued and running are the jobs of now; completed, failed, cancelled, "
             "retried and lost\nare totals since the data directory began; done/s is over the last "
             "10 s.\nIn JSON oldest_queued_ms is how long the job waits that waits longest, in "
             "milliseconds.\n"
             "Exit status: 0 done.");
  command->callback([&cli] { cli.exit_code = queues(cli); });
  add_act(app,
          cli,
          "pause",
          "Start no more jobs of a queue; running ones go on",
          "Examples:\n  sluice pause mail\n  sluice pause mail && sluice queues\n\n"
          "Jobs may still be submitted; they wait. Survives a restart of the broker.\n"
          "A queue that never had a job is paused for those to come, and a sentence on stderr says "
          "so.\n"
          "Exit status: 0 paused.",
          pause);
  add_act(app,
          cli,
          "resume",
          "Take a pause back",
          "Example:\n  sluice resume mail\n\nExit status: 0 resumed, or it was not paused; 4 no "
          "such queue.",
          resume);
  add_act(
      app,
      cli,
      "purge",
      "Cancel every waiting job of a queue",
      "Examples:\n  sluice purge mail\n  sluice purge mail --json | jq .count\n\n"
      "Pending and queued jobs become cancelled (`sluice retry` brings them back); running ones "
      "go on.\nExit status: 0 done, also when nothing waited; 4 no such queue.",
      purge);
}

}  // namespace sluice::cli
