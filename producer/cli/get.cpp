// `sluice get` and `sluice wait`.
#include <fmt/core.h>

#include <algorithm>
#include <memory>

#include "common/clock.h"
#include "producer/cli/cli.h"
#include "producer/cli/show.h"
#include "producer/cli/text.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

struct WaitArguments {
  std::vector<std::string> ids;
  std::string for_text = "24h";
  bool is_quiet = false;
};

// In JSON those that have not ended in time are there too, for every id that was asked for is.
void print_jobs(const Cli& cli,
                const std::vector<JobView>& jobs,
                const std::vector<JobId>& unfinished = {}) {
  if (cli.is_json) {
    Json all = Json::array();
    for (const JobView& job : jobs)
      all.push_back(job_to_json(job));
    for (const JobId& id : unfinished)
      all.push_back({{"id", id.view()}, {"unfinished", true}});
    return print_json(all.size() == 1 ? all.front() : all);
  }
  const bool with_colour = use_colours();
  for (std::size_t i = 0; i < jobs.size(); ++i)
    fmt::print("{}{}", i == 0 ? "" : "\n", job_to_text(jobs[i], wall_clock_ms(), with_colour));
}

int get(Cli& cli, const std::vector<std::string>& texts) {
  auto jobs = cli.client().get(id_arguments(texts));
  if (!jobs) return cli.fail(jobs.error());
  print_jobs(cli, *jobs);
  const bool is_missing =
      std::any_of(jobs->begin(), jobs->end(), [](const JobView& job) { return job.is_not_found; });
  return is_missing ? kExitNotFound : kExitOk;
}

}  // namespace

int wait_for(Cli& cli, const std::vector<JobId>& ids, std::int64_t wait_ms) {
  std::uint64_t ended = 0;
  std::uint64_t failed = 0;
  std::optional<Answer<WaitResult>> answer;
  {
    ProgressLine progress;
    const auto show = [&] {
      progress.show(fmt::format("{}  {} / {}{}",
                                progress_bar(ended, ids.size()),
                                ended,
                                ids.size(),
                                failed == 0 ? "" : fmt::format("  {} not completed", failed)));
    };
    show();
    answer = cli.client().wait(ids, wait_ms, [&](const JobView& job) {
      ++ended;
      if (exit_code_of_end(job) != kExitOk) ++failed;
      if (progress.is_due() || ended == ids.size()) show();
    });
  }
  if (!*answer) return cli.fail(answer->error());
  WaitResult& result = **answer;
  print_jobs(cli, result.ended, result.unfinished);
  if (!result.unfinished.empty())
    return cli.fail(kExitTimeout,
                    fmt::format("{} of {} jobs had not ended when the time was over, "
                                "first {}",
                                result.unfinished.size(),
                                ids.size(),
                                result.unfinished.front().view()));
  int code = kExitOk;
  for (const JobView& job : result.ended)
    code = std::max(code, exit_code_of_end(job));
  return code;
}

void add_get(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("get", "Show jobs: state, attempts, payload, result");
  auto ids = std::make_shared<std::vector<std::string>>();
  command->add_option("ID", *ids, "ids of jobs")->type_name("")->required();
  set_footer(*command,
             "Examples:\n  sluice get 0192f1c4-...\n  sluice get ID --json | jq .result\n"
             "\nTimes are local; in JSON they are milliseconds since 1970-01-01T00:00:00Z.\n"
             "--json of one id is an object, of several an array.\n"
             "Exit status: 0 shown, 4 one of them is not known.");
  command->callback([&cli, ids] { cli.exit_code = get(cli, *ids); });
}

void add_wait(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("wait", "Wait until jobs have ended, then show them");
  auto arguments = std::make_shared<WaitArguments>();
  command->add_option("ID", arguments->ids, "ids of jobs")->type_name("")->required();
  command->add_option("--for", arguments->for_text, "longest time to wait")
      ->type_name("TIME")
      ->capture_default_str();
  set_footer(*command,
             "Examples:\n  sluice wait $ID --for 5m && echo completed\n"
             "  sluice wait a b c --json | jq -r '.[] | .id + \" \" + .state'\n\n"
             "--json of one id is an object, of several an array; one that has not ended has\n"
             "only its id and \"unfinished\": true.\n"
             "Exit status: 0 all completed, 1 one failed or was cancelled, 4 one is not known,\n"
             "124 they had not ended within --for.");
  command->callback([&cli, arguments] {
    cli.exit_code =
        wait_for(cli, id_arguments(arguments->ids), duration_option("--for", arguments->for_text));
  });
}

}  // namespace sluice::cli
