// `sluice list`.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <memory>

#include "common/clock.h"
#include "common/utf8.h"
#include "producer/cli/cli.h"
#include "producer/cli/show.h"
#include "producer/cli/text.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

struct ListArguments {
  std::string state;  // empty: every state, one after the other
  std::string cursor;
  std::uint32_t limit = Filter{}.limit;
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

// The place in a list over one or all states. The broker's cursors are of one state; over all of
// them the word of the state stands in front: `running:CURSOR`.
class Place {
 public:
  Place(const std::string& state, const std::string& cursor) : names_state_(state.empty()) {
    const std::size_t colon = names_state_ ? cursor.find(':') : std::string::npos;
    std::string first = state;
    if (names_state_ && !cursor.empty()) {
      first = cursor.substr(0, colon);
      if (colon == std::string::npos || !parse_job_state(first))
        throw CLI::ValidationError("--cursor",
                                   "belongs to a list of one state: name it with --state");
    }
    cursor_ = names_state_ && !cursor.empty() ? cursor.substr(colon + 1) : cursor;
    const auto named = parse_job_state(first);
    if (!first.empty() && !named)
      throw CLI::ValidationError("--state",
                                 fmt::format("'{}' is none of pending, queued, running, "
                                             "completed, failed, cancelled",
                                             first));
    state_ = named.value_or(kFirst);
  }

  [[nodiscard]] bool is_end() const { return is_end_; }

  // As --cursor takes it; empty at the end.
  [[nodiscard]] std::string cursor() const {
    if (is_end_) return "";
    return names_state_ ? fmt::format("{}:{}", to_string(state_), cursor_) : cursor_;
  }

  void set(Filter& filter) const {
    filter.state = state_;
    filter.cursor = cursor_;
  }

  void go_on(const Listed& page) {
    cursor_ = page.cursor;
    if (!cursor_.empty()) return;
    is_end_ = !names_state_ || state_ == kLast;
    if (!is_end_) state_ = static_cast<JobState>(static_cast<int>(state_) + 1);
  }

 private:
  static constexpr JobState kFirst = JobState::pending;
  static constexpr JobState kLast = JobState::cancelled;

  bool names_state_;
  JobState state_ = kFirst;
  std::string cursor_;
  bool is_end_ = false;
};

// A page of the broker holds what meets the filter among so many jobs, perhaps none; pages are
// asked for until `limit` are found. One that would bring more is asked for again, shorter, so that
// its cursor is right.
Answer<std::vector<JobView>> read_some(Client& client,
                                       const ListArguments& arguments,
                                       Place& place) {
  std::vector<JobView> jobs;
  Filter filter = arguments.filter;
  const bool is_picking = !filter.task.empty() || !filter.tag.empty() || !filter.error_code.empty();
  const auto page_limit = [&] {
    return is_picking ? static_cast<std::uint32_t>(kListLimitMax)
                      : arguments.limit - static_cast<std::uint32_t>(jobs.size());
  };
  filter.limit = page_limit();
  while (!place.is_end() && jobs.size() < arguments.limit) {
    const std::size_t room = arguments.limit - jobs.size();
    place.set(filter);
    auto page = client.list(filter);
    if (!page) return tl::unexpected(std::move(page.error()));
    if (page->jobs.size() > room) {
      filter.limit = std::max<std::uint32_t>(1, filter.limit / 2);
      continue;
    }
    place.go_on(*page);
    std::move(page->jobs.begin(), page->jobs.end(), std::back_inserter(jobs));
    filter.limit = page_limit();
  }
  return jobs;
}

void print_documents(const std::vector<JobView>& page, const std::string& cursor, bool is_all) {
  Json jobs = Json::array();
  for (const JobView& job : page)
    if (is_all)
      print_json(job_to_json(job));
    else
      jobs.push_back(job_to_json(job));
  if (!is_all) print_json({{"jobs", std::move(jobs)}, {"cursor", cursor}});
}

void print_table(const std::vector<JobView>& page) {
  const bool with_colour = use_colours();
  Table table({"id", "state", "task", "queue", "priority", ">retries", ">when", "tags, error"});
  for (const JobView& job : page)
    table.add(row(job, wall_clock_ms(), with_colour));
  if (!table.empty()) fmt::print("{}", table.str(with_colour));
}

int list(Cli& cli, const ListArguments& arguments) {
  Place place(arguments.state, arguments.cursor);
  std::size_t count = 0;
  do {
    auto page = read_some(cli.client(), arguments, place);
    if (!page) return cli.fail(page.error());
    count += page->size();
    if (cli.is_json)
      print_documents(*page, place.cursor(), arguments.is_all);
    else
      print_table(*page);
  } while (arguments.is_all && !place.is_end());
  if (cli.is_json) return kExitOk;
  if (count == 0) fmt::print("no such job\n");
  if (!place.is_end()) fmt::print("more: --cursor {}   or --all\n", place.cursor());
  return kExitOk;
}

}  // namespace

void add_list(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("list", "List jobs by state, queue, task, tag or error");
  auto arguments = std::make_shared<ListArguments>();
  Filter& filter = arguments->filter;
  command
      ->add_option("--state,-s",
                   arguments->state,
                   "pending, queued, running, completed, failed or cancelled; without it all, in "
                   "this order")
      ->type_name("STATE");
  command->add_option("--queue,-q", filter.queue, "only of this queue")->type_name("NAME");
  command->add_option("--task", filter.task, "only of this task")->type_name("NAME");
  command->add_option("--tag", filter.tag, "only with this tag")->type_name("TAG");
  command->add_option("--error-code", filter.error_code, "only with this error code")
      ->type_name("CODE");
  command->add_option("--limit", arguments->limit, "at most so many jobs, 1 to 200")
      ->type_name("N")
      ->check(CLI::Range(1, static_cast<int>(kListLimitMax)).description(""))
      ->capture_default_str();
  command->add_option("--cursor", arguments->cursor, "go on where the last list ended")
      ->type_name("CURSOR");
  command->add_flag("--all", arguments->is_all, "to the end (--json: one job per line)");
  set_footer(
      *command,
      "Examples:\n  sluice list --tag AAPL\n  sluice list --state failed --queue mail\n"
      "  sluice list -s completed --tag AAPL --all --json | jq -r .id\n\n"
      "retries: decided so far / allowed. when: of its last move; of a pending job when it is "
      "due.\nA job that moves meanwhile may show twice or not at all.\n"
      "Exit status: 0 done, also when there is no such job.");
  command->callback([&cli, arguments] { cli.exit_code = list(cli, *arguments); });
}

}  // namespace sluice::cli
