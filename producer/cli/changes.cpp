// `sluice cancel`, `retry` and `delete`: by ids, or by a filter.
#include <fmt/core.h>

#include <memory>

#include "producer/cli/cli.h"
#include "producer/cli/text.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

struct ChangeArguments {
  std::vector<std::string> ids;
  std::string state, reason;
  Filter filter;
};

using Change = Answer<TargetsDone> (*)(Client&, Targets, const std::string& reason);

// Refused for one job: it has ended, or has not, or is not there.
int exit_code_of_status(std::string_view status) {
  if (status == "not_found") return kExitNotFound;
  return status == "too_late" || status == "not_ended" ? kExitFailed : kExitOk;
}

std::vector<Targets> targets_of(const ChangeArguments& arguments) {
  Filter filter = arguments.filter;
  if (!arguments.state.empty()) {
    filter.state = parse_job_state(arguments.state);
    if (!filter.state)
      throw CLI::ValidationError("--state", fmt::format("'{}' is no state", arguments.state));
  }
  const bool has_filter = filter != Filter{};
  if (has_filter == !arguments.ids.empty())
    throw CLI::ValidationError("ID", "give ids, or a filter such as --state failed --queue mail");
  if (has_filter) return {Targets{{}, filter}};
  std::vector<Targets> pages;
  const std::vector<JobId> ids = id_arguments(arguments.ids);
  for (std::size_t i = 0; i < ids.size(); i += kIdsPerRequestMax) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(i);
    const auto count = std::min(kIdsPerRequestMax, ids.size() - i);
    pages.push_back({{begin, begin + static_cast<std::ptrdiff_t>(count)}, {}});
  }
  return pages;
}

// What became of the jobs, one by one.
class Outcome {
 public:
  explicit Outcome(bool is_json) : is_json_(is_json) {}

  void add(const TargetResult& result) {
    const std::string state = result.state ? std::string(to_string(*result.state)) : "";
    if (is_json_)
      all_.push_back({{"id", result.id.view()}, {"status", result.status}, {"state", state}});
    else
      table_.add({result.id.str(), result.status, state});
    code_ = std::max(code_, exit_code_of_status(result.status));
    ++count_;
  }

  void print() {
    if (is_json_)
      print_json({{"results", std::move(all_)}});
    else if (table_.empty())
      fmt::print("no such job\n");
    else
      fmt::print("{}", table_.str(use_colours()));
  }

  [[nodiscard]] std::size_t count() const { return count_; }

  [[nodiscard]] int code() const { return code_; }

 private:
  bool is_json_;
  Json all_ = Json::array();
  Table table_{{"id", "result", "state"}};
  std::size_t count_ = 0;
  int code_ = kExitOk;
};

// By a filter it may take long: jobs that come meanwhile and meet it are taken too.
int change(Cli& cli, const ChangeArguments& arguments, Change act) {
  Outcome outcome(cli.is_json);
  ProgressLine progress;
  for (Targets targets : targets_of(arguments)) {
    for (;;) {
      auto done = act(cli.client(), targets, arguments.reason);
      if (!done) {
        // What was done stays done, and is told before what went wrong.
        progress.clear();
        if (outcome.count() != 0) outcome.print();
        return cli.fail(done.error());
      }
      for (const TargetResult& result : done->results)
        outcome.add(result);
      if (!targets.filter || done->cursor.empty()) break;
      targets.filter->cursor = done->cursor;
      if (progress.is_due()) progress.show(fmt::format("{} jobs so far", outcome.count()));
    }
  }
  progress.clear();
  outcome.print();
  return outcome.code();
}

void add_change(CLI::App& app,
                Cli& cli,
                const char* name,
                const char* purpose,
                const char* footer,
                Change act) {
  auto* command = app.add_subcommand(name, purpose);
  auto arguments = std::make_shared<ChangeArguments>();
  command->add_option("ID", arguments->ids, "ids of jobs; or a filter:")->type_name("");
  command->add_option("--state,-s", arguments->state, "every job of this state")
      ->type_name("STATE");
  command->add_option("--queue,-q", arguments->filter.queue, "of this queue")->type_name("NAME");
  command->add_option("--task", arguments->filter.task, "of this task")->type_name("NAME");
  command->add_option("--tag", arguments->filter.tag, "with this tag")->type_name("TAG");
  command->add_option("--error-code", arguments->filter.error_code, "with this error code")
      ->type_name("CODE");
  if (std::string_view(name) == "cancel")
    command->add_option("--reason", arguments->reason, "kept with the job");
  set_footer(*command, footer);
  command->callback([&cli, arguments, act] { cli.exit_code = change(cli, *arguments, act); });
}

}  // namespace

void add_changes(CLI::App& app, Cli& cli) {
  add_change(app,
             cli,
             "cancel",
             "Cancel jobs that wait or run",
             "Examples:\n  sluice cancel ID --reason 'typed the wrong date'\n"
             "  sluice cancel --state queued --tag AAPL\n\n"
             "With a filter, jobs that come while it runs and meet it are taken too.\n"
             "A running job is asked to stop (`cancelling`) and can no longer become completed.\n"
             "Exit status: 0 done, 1 too late, 4 not found.",
             [](Client& client, Targets targets, const std::string& reason) {
               return client.cancel(std::move(targets), reason);
             });
  add_change(app,
             cli,
             "retry",
             "Queue failed or cancelled jobs anew",
             "Examples:\n  sluice retry ID\n  sluice retry --state failed --queue mail\n\n"
             "A new life: retries count from 0 again.\nExit status: 0 done, 1 not ended or "
             "completed, 4 not "
             "found.",
             [](Client& client, Targets targets, const std::string&) {
               return client.retry(std::move(targets));
             });
  add_change(app,
             cli,
             "delete",
             "Remove ended jobs",
             "Examples:\n  sluice delete ID\n  sluice delete --state failed --error-code "
             "expired\n\nExit status: 0 done, 1 not ended, 4 not found.",
             [](Client& client, Targets targets, const std::string&) {
               return client.remove(std::move(targets));
             });
}

}  // namespace sluice::cli
