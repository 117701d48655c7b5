#include "worker/runtime/worker_config.h"

#include <gmock/gmock.h>

namespace sluice::worker_config_test {
namespace {

using namespace sluice;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> task_names(const WorkerConfig& config) {
  std::vector<std::string> names;
  for (const TaskSettings& task : config.tasks)
    names.push_back(task.task());
  return names;
}

// `where: detail` of the refusal, or nothing.
std::string refusal(const WorkerOptions& options, const std::string& task_toml = {}) {
  const auto config = worker_config(options, task_toml);
  return config ? "" : config.error().where + ": " + config.error().detail;
}

TEST(WorkerConfig, flags_set_what_their_table_says) {
  WorkerOptions options;
  ConfigTable table("sluice-worker", "test");
  describe(table, options);
  const char* argv[] = {"sluice-worker",
                        "--broker",
                        "tcp://h:1",
                        "--concurrency",
                        "7",
                        "--queues",
                        "a,b",
                        "--label",
                        "zone=x",
                        "--task",
                        "cut=cut -d, -f1",
                        "--drain-grace",
                        "2s",
                        "--log-format",
                        "json"};
  const auto action =
      table.parse(static_cast<int>(std::size(argv)), argv, [](const char* name) -> const char* {
        return std::string(name) == "SLUICE_TASK" ? "no flag" : nullptr;
      });
  ASSERT_TRUE(action) << action.error().detail;
  auto config = worker_config(options, table.subtree("task"));
  ASSERT_TRUE(config) << config.error().detail;
  EXPECT_EQ(config->node.concurrency, 7u);
  EXPECT_EQ(config->node.drain_grace_ms, 2000);
  EXPECT_THAT(config->node.queues, ElementsAre("a", "b"));
  EXPECT_EQ(config->node.labels.at(0).value, "x");
  ASSERT_THAT(task_names(*config), ElementsAre("cut"));
  EXPECT_THAT(*config->tasks[0].take_texts("program").value(), ElementsAre("cut", "-d,", "-f1"));
}

TEST(WorkerConfig, cgroups_are_used_where_they_were_given_unless_the_settings_say_otherwise) {
  WorkerOptions options;
  EXPECT_EQ(cgroups_wanted(options), CgroupsWanted::automatic);
  options.cgroups = "off";
  EXPECT_EQ(cgroups_wanted(options), CgroupsWanted::off);
  options.cgroups = "required";
  EXPECT_EQ(cgroups_wanted(options), CgroupsWanted::required);
}

TEST(WorkerConfig, a_built_in_task_that_is_none_is_named) {
  WorkerOptions options;
  options.builtins = {"echo", "nope"};
  EXPECT_EQ(refusal(options), "--builtin: nope is none; there are echo, noop, sleep, count, fail");
}

TEST(WorkerConfig, the_built_in_crash_is_not_offered_where_it_would_end_the_node) {
  WorkerOptions options;
  options.builtins = {"crash"};
  EXPECT_EQ(refusal(options),
            "--builtin: crash ends the process that it runs in: it wants a table [task.crash] with "
            "run = \"isolate\"");
}

TEST(WorkerConfig, a_node_without_tasks_offers_the_built_in_ones) {
  const auto config = worker_config({}, "");
  ASSERT_TRUE(config);
  EXPECT_THAT(task_names(*config), ElementsAre("echo", "noop", "sleep", "count", "fail"));
  EXPECT_GE(config->node.concurrency, 1u);
  EXPECT_FALSE(config->node.name.empty());
}

TEST(WorkerConfig, the_handlers_of_a_program_are_all_offered_as_the_file_says_or_on_threads) {
  auto config = worker_config({}, "[task.b]\nrun = \"isolate\"\n", {"a", "b"});
  ASSERT_TRUE(config);
  ASSERT_THAT(task_names(*config), ElementsAre("b", "a"));
  EXPECT_EQ(config->tasks[0].take_text("run").value(), "isolate");
  EXPECT_EQ(config->tasks[1].take_text("run").value(), "thread");
}

TEST(WorkerConfig, a_program_with_handlers_of_its_own_has_no_flag_for_the_built_in_ones) {
  WorkerOptions options;
  ConfigTable table("mine", "test");
  describe(table, options, Builtins::none);
  const char* argv[] = {"mine", "--builtin", "echo"};
  const auto action = table.parse(3, argv, [](const char*) -> const char* { return nullptr; });
  ASSERT_FALSE(action);
  EXPECT_EQ(action.error().where, "--builtin");
}

TEST(WorkerConfig, tables_of_the_file_become_tasks) {
  auto config = worker_config({}, "[task.sum]\nprogram = [\"sha256sum\"]\nenv = {A = \"1\"}\n");
  ASSERT_TRUE(config);
  ASSERT_THAT(task_names(*config), ElementsAre("sum"));
  EXPECT_EQ(config->tasks[0].take_map("env").value()->at("A"), "1");
}

TEST(WorkerConfig, limits_have_a_table_of_their_own) {
  auto config = worker_config({},
                              "[task.sum]\nprogram = [\"sha256sum\"]\n"
                              "[task.sum.limits]\nmemory = \"64MiB\"\nopen_files = 9\n");
  ASSERT_TRUE(config);
  TaskSettings& sum = config->tasks.at(0);
  EXPECT_EQ(sum.take_bytes("limits.memory").value(), 64 << 20);
  EXPECT_EQ(sum.take_integer("limits.open_files", 1, 10).value(), 9);
}

TEST(WorkerConfig, what_is_wrong_is_refused_by_name) {
  WorkerOptions options;
  EXPECT_THAT(refusal(options, "[task.sum.limits]\ncpu = [1]\n"),
              HasSubstr("task.sum.limits.cpu: must be a text"));
  EXPECT_THAT(refusal(options, "task = 1\n"), HasSubstr("task: must be"));
  EXPECT_THAT(refusal(options, "[task]\nsum = 1\n"), HasSubstr("task.sum: must be a table"));
  EXPECT_THAT(refusal(options, "[task.sum]\nprogram = [1]\n"), HasSubstr("task.sum.program"));
  options.broker = "localhost";
  EXPECT_THAT(refusal(options), HasSubstr("--broker: must be tcp://HOST:PORT"));
  options = {};
  options.name = "no blanks";
  EXPECT_THAT(refusal(options), HasSubstr("--name"));
  options = {};
  options.queues = {"no blanks"};
  EXPECT_THAT(refusal(options), HasSubstr("--queues"));
  options = {};
  options.labels = {"zone"};
  EXPECT_THAT(refusal(options), HasSubstr("--label: must be KEY=VALUE"));
  options = {};
  options.programs = {"sum="};
  EXPECT_THAT(refusal(options), HasSubstr("--task: must be NAME=PROGRAM"));
}

}  // namespace
}  // namespace sluice::worker_config_test
