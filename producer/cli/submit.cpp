// `sluice submit`.
#include <fmt/core.h>

#include <memory>

#include "common/clock.h"
#include "common/refusal.h"
#include "producer/cli/bulk.h"
#include "producer/cli/cli.h"
#include "producer/cli/job_arguments.h"
#include "producer/cli/show.h"
#include "producer/cli/text.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

namespace {

constexpr const char* kSubmitFooter =
    R"(The payload is one JSON document, key=value pairs (a JSON object; values that read as JSON are taken
as such), @FILE or - for stdin (bytes as they are). Prints the id of the job.

Examples:
  sluice submit echo text=hello count=3
  sluice submit echo '{"text": "hello"}' --wait
  sluice submit resize @cat.jpg --content-type image/jpeg --priority high --tag cats
  date | sluice submit echo - --content-type text/plain
  sluice submit report --run-at 2026-12-01T06:00:00Z --retry patient
  sluice submit fetch url=http://... --retry base=300ms --retry cap=5s --max-retries 5
  sluice submit --jsonl jobs.jsonl
      each line {"task": "echo", "payload": {...}, "id", "queue", "priority", "tags": [...], ...}

A TIME is written 300ms, 3s, 5m, 24h, 7d, at most ten years; a WHEN 2026-12-01T06:00:00Z (without the Z
in local time) or in milliseconds since 1970. A payload has at most 1 MiB.
Exit status: 0 accepted (with --wait: completed), 1 refused, failed or a bad line,
124 not ended within --for. When no answer came and the broker may have the job all the same, its id
is told with the error (--json: "id").)";

struct SubmitArguments {
  JobArguments job;
  BulkArguments bulk;
  std::string for_text = "24h";
  bool waits = false;
};

int submit_one(Cli& cli, const SubmitArguments& arguments, std::int64_t wait_ms) {
  auto job = job_from_arguments(arguments.job, wall_clock_ms());
  if (!job)
    return cli.fail(kExitUsage, fmt::format("{}: {}", job.error().where, job.error().detail));
  if (job->id.empty()) job->id = new_job_id();
  const std::string id = job->id.str();
  auto result = cli.client().submit(std::move(*job));
  if (!result) {
    ClientError error = result.error();
    if (!error.may_be_done) return cli.fail(error);
    error.error.detail += "; the broker may have the job all the same: ask with `sluice get " + id +
                          "`, or submit it again with --id " + id;
    return cli.fail(error, id);
  }
  if (result->status == SubmitStatus::rejected || result->status == SubmitStatus::conflict) {
    Error error = result->error.value_or(Error{ErrorCode::conflict, "id", "refused"});
    error.where = field_of_job(error);
    return cli.fail({ClientFailure::refused, error, is_retryable(error.code)});
  }
  if (arguments.waits) return wait_for(cli, {JobId(result->id)}, wait_ms);
  if (cli.is_json)
    print_json(submit_result_to_json(*result));
  else
    fmt::print("{}\n", result->id);
  return kExitOk;
}

void add_job_options(CLI::App& command, JobArguments& job) {
  command.add_option("TASK", job.task, "what is to be done: a task that some worker offers")
      ->type_name("");
  command.add_option("PAYLOAD", job.payload, "JSON, key=value ..., @FILE or -")->type_name("");
  command.add_option("--id", job.id, "your own id; submitting it again is safe")->type_name("ID");
  command.add_option("--queue,-q", job.queue, "default: default")->type_name("NAME");
  command.add_option("--priority,-p", job.priority, "low, normal, high or critical")
      ->type_name("PRIORITY");
  command.add_option("--delay", job.delay, "start no earlier than this long from now")
      ->type_name("TIME");
  command.add_option("--run-at", job.run_at, "start no earlier than this time")->type_name("WHEN");
  command.add_option("--expires", job.expires, "not started by then, or within this time: failed")
      ->type_name("WHEN|TIME");
  command.add_option("--attempt-timeout", job.timeout, "of one attempt (default 30m; 0 = none)")
      ->type_name("TIME");
  command
      .add_option("--max-retries",
                  job.max_retries,
                  "after the first attempt, 0 to 1000 (default 3)")
      ->type_name("N")
      ->check(CLI::Range(0, static_cast<int>(kMaxRetriesMax)).description(""));
  command
      .add_option("--retry", job.retry, "none, standard, patient, or base=, factor=, cap=, jitter=")
      ->type_name("POLICY")
      ->allow_extra_args(false);
  command.add_option("--tag", job.tags, "to find it again; may be repeated")
      ->type_name("TAG")
      ->allow_extra_args(false);
  command.add_option("--header", job.headers, "name=value for the handler; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command.add_option("--keep-result", job.keep_result, "keep it at least so long after its end")
      ->type_name("TIME");
  command.add_flag("--keep-payload", job.keep_payload, "keep the payload of the completed job");
  command.add_option("--content-type", job.content_type, "of the payload")->type_name("TYPE");
}

}  // namespace

void add_submit(CLI::App& app, Cli& cli) {
  auto* command = app.add_subcommand("submit", "Submit a job, or many with --jsonl");
  auto arguments = std::make_shared<SubmitArguments>();
  add_job_options(*command, arguments->job);
  command->add_flag("--wait,-w", arguments->waits, "wait for its end and show it");
  command->add_option("--for", arguments->for_text, "longest time to wait")
      ->type_name("TIME")
      ->capture_default_str();
  command
      ->add_option("--jsonl",
                   arguments->bulk.path,
                   "one job per line of this file (- = stdin); a broker that takes nothing just "
                   "now is asked again for 30s")
      ->type_name("FILE");
  command->add_flag("--stop-at-error",
                    arguments->bulk.stops_at_error,
                    "of --jsonl: stop at the first bad line or refused job");
  set_footer(*command, kSubmitFooter);
  command->callback([&cli, arguments] {
    const bool is_bulk = !arguments->bulk.path.empty();
    if (is_bulk == !arguments->job.task.empty())
      throw CLI::ValidationError("TASK", "give a task, or --jsonl FILE");
    if (is_bulk && arguments->waits)
      throw CLI::ValidationError("--wait", "waits for one job; of a file see `sluice list`");
    // Before the job is sent: one that the broker has is not refused any more.
    const std::int64_t wait_ms = duration_option("--for", arguments->for_text);
    cli.exit_code =
        is_bulk ? submit_lines(cli, arguments->bulk) : submit_one(cli, *arguments, wait_ms);
  });
}

}  // namespace sluice::cli
