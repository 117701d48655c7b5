// `sluice stats` and `ping`.
#include <fmt/core.h>

#include "common/clock.h"
#include "common/utf8.h"
#include "producer/cli/cli.h"
#include "producer/cli/text.h"
#include "producer/connection.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

int stats(Cli& cli) {
  auto answer = cli.client().stats();
  if (!answer) return cli.fail(answer.error());
  if (cli.is_json) {
    Json all = Json::object();
    for (const auto& [name, text] : answer->texts)
      all[name] = text;
    for (const auto& [name, number] : answer->numbers)
      all[name] = number;
    print_json(all);
    return kExitOk;
  }
  Table table({"figure", ">value"});
  for (const auto& [name, text] : answer->texts)
    table.add({name, printable(text)});
  for (const auto& [name, number] : answer->numbers)
    table.add({name, std::to_string(number)});
  fmt::print("{}", table.str(use_colours()));
  return kExitOk;
}

int ping(Cli& cli) {
  const std::int64_t began_ms = monotonic_ms();
  auto pong = cli.client().ping();
  if (!pong) return cli.fail(pong.error());
  const std::int64_t took_ms = monotonic_ms() - began_ms;
  if (cli.is_json)
    print_json({{"broker", cli.client().address()},
                {"version", pong->version},
                {"protocol", pong->protocol},
                {"epoch", pong->epoch},
                {"durable", to_string(pong->durable)},
                {"store", pong->store},
                {"insecure", pong->insecure},
                {"took_ms", took_ms}});
  else
    fmt::print("broker {} at {}: store {}, durable {}, epoch {}, answered in {}\n",
               pong->version,
               cli.client().address(),
               pong->store,
               to_string(pong->durable),
               pong->epoch,
               span_text(took_ms));
  if (pong->store == "down" && !cli.is_json)
    cli.warn("the broker cannot use its Redis now; `sluice stats` says why");
  return pong->store == "down" ? kExitFailed : kExitOk;
}

}  // namespace

void add_stats(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("stats", "Totals of the broker");
  set_footer(
      *command,
      "Examples:\n  sluice stats\n  sluice stats --json | jq .failed\n\n"
      "Totals count from the beginning of the data directory; PROTOCOL.md says what each figure "
      "means.\nA name in _ms is in milliseconds, in _bytes in bytes.\nExit status: 0 done.");
  command->callback([&cli] { cli.exit_code = stats(cli); });
  auto* ping_command = app.add_subcommand("ping", "Is the broker there, and its store?");
  set_footer(*ping_command,
             "Examples:\n  sluice ping\n  until sluice ping --timeout 1s; do sleep 1; done\n\n"
             "Exit status: 0 there; 1 there, but its Redis is away; 69 not there.");
  ping_command->callback([&cli] { cli.exit_code = ping(cli); });
}

}  // namespace sluice::cli
