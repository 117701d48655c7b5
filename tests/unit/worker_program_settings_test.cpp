#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/core/bounded.h"
#include "worker/runtime/program_settings.h"

namespace sluice::worker_program_settings_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Values = std::map<std::string, TaskSettings::Value>;
using Texts = TaskSettings::Texts;

Result<ProgramSettings> taken(Values values) {
  TaskSettings settings("t", std::move(values));
  auto program = take_program(settings);
  EXPECT_FALSE(program && settings.untaken());
  return program;
}

std::string refusal(Values values) {
  const auto program = taken(std::move(values));
  return program ? "taken" : program.error().where + ": " + program.error().detail;
}

RunJob program_job() {
  RunJob job;
  job.id = JobId("a");
  job.fence = {7, 3};
  return job;
}

TEST(ProgramSettings, a_program_is_all_that_must_be_given) {
  const auto bare = taken({{"program", std::string("no shell here")}});
  ASSERT_TRUE(bare);
  EXPECT_THAT(bare->argv, ElementsAre("no shell here"));
  EXPECT_EQ(bare->cwd, "");
  EXPECT_THAT(bare->env, IsEmpty());
  EXPECT_THAT(bare->pass_env, ElementsAre("PATH", "HOME", "LANG", "TZ"));
  const auto full = taken({{"program", Texts{"cut", "-f1", ""}},
                           {"cwd", std::string("/tmp")},
                           {"env", TaskSettings::TextMap{{"A", "1"}}},
                           {"pass_env", Texts{}}});
  ASSERT_TRUE(full);
  EXPECT_THAT(full->argv, ElementsAre("cut", "-f1", ""));
  EXPECT_EQ(full->cwd, "/tmp");
  EXPECT_EQ(full->env.at("A"), "1");
  EXPECT_THAT(full->pass_env, IsEmpty()) << "a list of nothing passes nothing";
}

TEST(ProgramSettings, wrong_ones_are_refused_by_name) {
  const std::string none = "task.t.program: must name a program, e.g. [\"sha256sum\"]";
  const std::string cat = "cat";
  EXPECT_EQ(refusal({}), none);
  EXPECT_EQ(refusal({{"program", Texts{}}}), none);
  EXPECT_EQ(refusal({{"program", Texts{"", "-l"}}}), none);
  EXPECT_EQ(refusal({{"program", true}}), "task.t.program: must be a list of texts");
  EXPECT_EQ(refusal({{"program", cat}, {"cwd", Texts{"/"}}}), "task.t.cwd: must be a text");
  EXPECT_EQ(refusal({{"program", cat}, {"env", cat}}), "task.t.env: must be a table of texts");
  EXPECT_EQ(refusal({{"program", cat}, {"env", TaskSettings::TextMap{{"SLUICE_NODE", "x"}}}}),
            "task.t.env: SLUICE_NODE is the node's to set");
  EXPECT_EQ(refusal({{"program", cat}, {"pass_env", true}}),
            "task.t.pass_env: must be a list of texts");
}

TEST(ProgramSettings, the_node_s_variables_pass_when_they_are_listed_and_set_and_not_set_anew) {
  ::setenv("SLUICE_TEST_PASSED", "node's", 1);
  ::setenv("SLUICE_TEST_ANEW", "node's", 1);
  ::setenv("SLUICE_TEST_UNLISTED", "node's", 1);
  ::unsetenv("SLUICE_TEST_UNSET");
  ProgramSettings program;
  program.pass_env = {"SLUICE_TEST_PASSED", "SLUICE_TEST_ANEW", "SLUICE_TEST_UNSET"};
  program.env = {{"SLUICE_TEST_ANEW", "task's"}};
  EXPECT_THAT(environment_of(program, "n1@aa", "t"),
              ElementsAre("SLUICE_TEST_PASSED=node's",
                          "SLUICE_TEST_ANEW=task's",
                          "SLUICE_NODE=n1@aa",
                          "SLUICE_TASK=t"));
  for (const char* name : {"SLUICE_TEST_PASSED", "SLUICE_TEST_ANEW", "SLUICE_TEST_UNLISTED"})
    ::unsetenv(name);
}

TEST(ProgramSettings, a_program_that_is_none_fails_for_good_and_another_trouble_does_not) {
  ProgramSettings program;
  program.argv = {"/bin/tool"};
  program.cwd = "/somewhere";
  const auto never_ran_for = [&program](int error) {
    return never_ran(program_job(), program, SpawnReport{.exec_errno = error});
  };
  for (const int error : {ENOENT, EACCES, ENOTDIR, ENOEXEC}) {
    const AttemptResult result = never_ran_for(error);
    EXPECT_THAT(result.error, testing::HasSubstr("the program /bin/tool cannot be run: ")) << error;
    EXPECT_EQ(result.error_code, "program_not_found") << error;
    EXPECT_FALSE(result.retryable) << error;
  }
  EXPECT_EQ(never_ran_for(E2BIG).error_code, "cannot_start");
  EXPECT_TRUE(never_ran_for(E2BIG).retryable);
  EXPECT_EQ(never_ran_for(ENOMEM).outcome, Outcome::handed_back);
  const AttemptResult homeless =
      never_ran(program_job(), program, {.exec_errno = ENOENT, .is_cwd_refused = 1});
  EXPECT_EQ(homeless.error_code, "cwd_not_found");
  EXPECT_EQ(homeless.error,
            "its directory (cwd) /somewhere cannot be entered: No such file or directory");
}

SpawnReport ended(int wait_status) {
  SpawnReport report;
  report.wait_status = wait_status;
  return report;
}

TEST(ProgramSettings, an_end_is_told_with_what_and_then_what_was_said_last) {
  const AttemptResult killed = failed_by_exit(program_job(),
                                              {},
                                              ended(W_EXITCODE(0, SIGXCPU)),
                                              " in the middle",
                                              "last\nwords");
  EXPECT_EQ(killed.error_code, "killed_by_SIGXCPU");
  EXPECT_EQ(killed.error, "killed by SIGXCPU in the middle\nlast\nwords");
  EXPECT_TRUE(killed.retryable);
  const AttemptResult early =
      failed_by_exit(program_job(), {}, ended(W_EXITCODE(65, 0)), " early", "");
  EXPECT_EQ(early.error_code, "exit_65");
  EXPECT_EQ(early.error, "exited with code 65 early");
  EXPECT_FALSE(early.retryable);
  EXPECT_EQ(early.fence, (Fence{7, 3}));
}

TEST(ProgramSettings, a_signal_is_the_cpu_limit_s_when_there_is_one_and_its_time_was_used) {
  const auto code = [](std::uint64_t limit_s, int signal, std::int64_t cpu_ms) {
    SpawnReport report = ended(W_EXITCODE(0, signal));
    report.cpu_ms = cpu_ms;
    return failed_by_exit(program_job(), {.cpu_s = limit_s}, report, "", "").error_code;
  };
  EXPECT_EQ(code(2, SIGXCPU, 1990), "cpu_limit");
  EXPECT_EQ(code(2, SIGKILL, 1500), "cpu_limit") << "the kernel has two accounts";
  EXPECT_EQ(code(2, SIGKILL, 1499), "killed_by_SIGKILL");
  EXPECT_EQ(code(2, SIGTERM, 5000), "killed_by_SIGTERM");
  EXPECT_EQ(code(0, SIGKILL, 5000), "killed_by_SIGKILL");
}

TEST(ProgramSettings, the_end_of_what_is_said_is_kept_however_it_comes) {
  std::string said;
  for (int i = 0; said.size() < 3 * kErrorTextBytesMax; ++i)
    said += std::to_string(i) + "\n";
  std::string at_once;
  keep_tail(at_once, said);
  std::string in_pieces;
  for (std::size_t at = 0; at < said.size(); at += 7)
    keep_tail(in_pieces, std::string_view(said).substr(at, 7));
  EXPECT_EQ(at_once, in_pieces);
  EXPECT_TRUE(said.ends_with(at_once));
  std::string little;
  keep_tail(little, "all");
  keep_tail(little, " of it");
  EXPECT_EQ(little, "all of it");
}

// The last line is what a person looks for; an error's text is cut at its end.
TEST(ProgramSettings, the_longest_tail_and_the_words_before_it_fit_an_error_s_text) {
  std::string tail;
  keep_tail(tail, std::string(2 * kErrorTextBytesMax, 'e') + "last");
  const AttemptResult result = failed_by_exit(program_job(),
                                              {},
                                              ended(W_EXITCODE(0, 40)),
                                              " before it told the job's end",
                                              tail);
  EXPECT_EQ(bounded(result, 0).error, result.error);
  EXPECT_GT(result.error.size(), kErrorTextBytesMax - 64);
}

}  // namespace
}  // namespace sluice::worker_program_settings_test
