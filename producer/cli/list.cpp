// `sluice list`.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <memory>

#include "producer/cli/cli.h"
#include "producer/cli/show.h"
#include "producer/cli/text.h"

namespace sluice::cli {

namespace {

struct ListArguments {
  std::string state;
  Filter filter;
  bool is_all = false;
};

std::vector<std::string> row(const JobView& view, std::int64_t now_ms, bool with_colour) {
  if (!view.job)
    return {view.id.str(), state_text(view.state, with_colour), "", "", "", "", "", ""};
  const Job& job = *view.job;
  const std::int64_t moved_ms = is_ended(job.state)              ? job.finished_ms
                                : job.state == JobState::running ? job.started_ms
                                : job.state == JobState::pending ? job.due_ms
                                                                 : job.created_ms;
  return {view.id.str(),
          state_text(job.state, with_colour),
          job.spec.task,
          job.spec.queue,
          std::string(to_string(job.spec.priority)),
          fmt::format("{}/{}", job.retry_count, job.spec.retry.max_retries),
          moved_ms == 0 ? "" : relative_time(moved_ms, now_ms),
          printable(fmt::format("{}{}{}",
                                fmt::join(job.spec.tags, ","),
                                job.spec.tags.empty() || job.error_code.empty() ? "" : "  ",
                                job.error_code))};
}

void print_page(const Cli& cli, const Listed& page, bool is_all) {
  if (cli.is_json) {
    if (is_all) {
      for (const JobView& job : page.jobs)
        print_json(job_to_json(job));
      return;
    }
    Json jobs = Json::array();
    for (const JobView& job : page.jobs)
      jobs.push_back(job_to_json(job));
    return print_json({{"jobs", std::move(jobs)}, {"cursor", page.cursor}});
  }
  const bool with_colour = use_colours();
  Table table({"id", "state", "task", "queue", "priority", ">retries", ">when", "tags, error"});
  for (const JobView& job : page.jobs)
    table.add(row(job, wall_now_ms(), with_colour));
  if (!table.empty()) fmt::print("{}", table.str(with_colour));
  if (!page.cursor.empty() && !is_all) fmt::print("more: --cursor {}   or --all\n", page.cursor);
}

int list(Cli& cli, ListArguments& arguments) {
  arguments.filter.state = parse_job_state(arguments.state);
  if (!arguments.filter.state)
    throw CLI::ValidationError("--state",
                               fmt::format("'{}' is none of pending, queued, running, "
                                           "completed, failed, cancelled",
                                           arguments.state));
  do {
    auto page = cli.client().list(arguments.filter);
    if (!page) return cli.fail(page.error());
    print_page(cli, *page, arguments.is_all);
    arguments.filter.cursor = page->cursor;
  } while (arguments.is_all && !arguments.filter.cursor.empty());
  return kExitOk;
}

}  // namespace

void add_list(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("list", "List the jobs of one state, newest view, by pages");
  auto arguments = std::make_shared<ListArguments>();
  Filter& filter = arguments->filter;
  command
      ->add_option("--state,-s",
                   arguments->state,
                   "pending, queued, running, completed, failed, "
                   "cancelled")
      ->required();
  command->add_option("--queue,-q", filter.queue, "only of this queue");
  command->add_option("--task", filter.task, "only of this task");
  command->add_option("--tag", filter.tag, "only with this tag");
  command->add_option("--error-code", filter.error_code, "only with this error code");
  command->add_option("--limit", filter.limit, "jobs of a page")
      ->check(CLI::Range(1, static_cast<int>(kListLimitMax)))
      ->capture_default_str();
  command->add_option("--cursor", filter.cursor, "where the last page ended");
  command->add_flag("--all",
                    arguments->is_all,
                    "page through to the end (--json: one job per line)");
  command->footer(
      "\nExamples:\n  sluice list --state failed --queue mail\n"
      "  sluice list -s completed --tag AAPL --all --json | jq -r .id");
  command->callback([&cli, arguments] { cli.exit_code = list(cli, *arguments); });
}

}  // namespace sluice::cli
