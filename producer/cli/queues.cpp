// `sluice queues`, `pause`, `resume` and `purge`.
#include <fmt/core.h>

#include <memory>

#include "producer/cli/cli.h"
#include "producer/cli/text.h"

namespace sluice::cli {

namespace {

Json to_json(const QueueInfo& queue) {
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
      all.push_back(to_json(queue));
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

using Act = Answer<Done> (*)(Client&, std::string queue);

void add_act(CLI::App& app, Cli& cli, const char* name, const char* purpose, Act act) {
  auto* command = app.add_subcommand(name, purpose);
  auto queue = std::make_shared<std::string>();
  command->add_option("QUEUE", *queue, "name of the queue")->required();
  command->callback([&cli, queue, act] {
    auto done = act(cli.client(), *queue);
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
  command->callback([&cli] { cli.exit_code = queues(cli); });
  add_act(app,
          cli,
          "pause",
          "Start no more jobs of a queue; running ones go on",
          [](Client& client, std::string queue) { return client.pause(std::move(queue)); });
  add_act(app, cli, "resume", "Take a pause back", [](Client& client, std::string queue) {
    return client.resume(std::move(queue));
  });
  add_act(app,
          cli,
          "purge",
          "Cancel every waiting job of a queue",
          [](Client& client, std::string queue) { return client.purge(std::move(queue)); });
}

}  // namespace sluice::cli
