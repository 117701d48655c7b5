// What [task.NAME.limits] and `user` do to real programs, per job and kept.
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <filesystem>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "tests/support/runtime_fixture.h"
#include "worker/runtime/exec.h"
#include "worker/runtime/kept_runtime.h"

namespace sluice::worker_program_limits_test {
namespace {

using namespace sluice;
using testing::HasSubstr;

int processes_of(uid_t user) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    struct stat status {};

    if (::isdigit(static_cast<unsigned char>(entry.path().filename().string()[0])) != 0 &&
        ::stat(entry.path().c_str(), &status) == 0 && status.st_uid == user)
      ++count;
  }
  return count;
}

class ProgramLimitsTest : public RuntimeFixture {
 protected:
  void python(const std::string& script, Values values) {
    values["program"] = TaskSettings::Texts{"/usr/bin/python3", "-c", script};
    build(exec_, std::move(values));
  }

  void shell(const std::string& script, Values values) {
    values["program"] = TaskSettings::Texts{"/bin/sh", "-c", script};
    build(exec_, std::move(values));
  }

  ExecRuntimeBuilder exec_;
  KeptRuntimeBuilder kept_;
};

TEST_F(ProgramLimitsTest, memory_beyond_the_limit_is_not_given) {
  python("bytearray(512 << 20)", {{"limits.memory", std::string("256MiB")}});
  const AttemptResult result = run();
  EXPECT_EQ(result.error_code, "exit_1");
  EXPECT_THAT(result.error, HasSubstr("MemoryError"));
}

TEST_F(ProgramLimitsTest, what_uses_up_its_cpu_time_is_killed_and_may_be_tried_again) {
  shell("while :; do :; done", {{"limits.cpu", std::string("1s")}});
  const AttemptResult result = run();
  EXPECT_EQ(result.error_code, "cpu_limit");
  EXPECT_EQ(result.error, "killed: it used all its 1 s of CPU time");
  EXPECT_TRUE(result.retryable);
  EXPECT_GT(result.usage.cpu_ms, 0);
}

TEST_F(ProgramLimitsTest, one_that_ignores_the_signal_is_killed_a_second_later) {
  python(
      "import signal\n"
      "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
      "while True: pass",
      {{"limits.cpu", std::string("1s")}});
  EXPECT_EQ(run().error_code, "cpu_limit");
}

TEST_F(ProgramLimitsTest, somebody_elses_sigkill_is_no_use_of_cpu_time) {
  shell("kill -9 $$", {{"limits.cpu", std::string("1s")}});
  EXPECT_EQ(run().error_code, "killed_by_SIGKILL");
}

TEST_F(ProgramLimitsTest, descriptors_are_counted) {
  python(
      "fds = []\n"
      "try:\n"
      "  while True: fds.append(open('/dev/null'))\n"
      "except OSError as error: print(error.errno, len(fds) + 4)",
      {{"limits.open_files", std::int64_t{32}}});
  EXPECT_EQ(run().result, "24 32\n");
}

TEST_F(ProgramLimitsTest, a_file_beyond_the_limit_ends_its_writer) {
  python(
      "import signal, tempfile\n"
      "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"  // python ignores it
      "file = tempfile.TemporaryFile()\n"
      "file.write(bytes(70000)); file.flush()",
      {{"limits.file_size", std::string("64KiB")}});
  EXPECT_EQ(run().error_code, "killed_by_SIGXFSZ");
}

TEST_F(ProgramLimitsTest, output_may_be_bounded_below_the_size_of_a_result) {
  shell("head -c 1001 /dev/zero; sleep 600", {{"limits.output", std::int64_t{1000}}});
  const AttemptResult result = run();
  EXPECT_EQ(result.error_code, "result_too_large");
  EXPECT_EQ(result.error, "killed: stdout passed 1000 bytes, all that a result may have");
  EXPECT_FALSE(result.retryable);
}

TEST_F(ProgramLimitsTest, as_another_user_with_its_groups_and_its_own_streams) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root may become another user";
  shell("id -un; id -Gn; echo open > /dev/stdout; kill -0 $PPID 2>/dev/null || echo powerless",
        {{"user", std::string("nobody")}, {"stdin", std::string("none")}});
  EXPECT_EQ(run().result, "nobody\nnogroup\nopen\npowerless\n");
}

TEST_F(ProgramLimitsTest, a_fork_bomb_stays_under_its_limit_and_nothing_of_it_is_left) {
  if (::geteuid() != 0) GTEST_SKIP() << "a user for the bomb alone: only root may become one";
  python(
      "import os, time\n"
      "def bomb():\n"
      "  while True:\n"
      "    try:\n"
      "      if os.fork() == 0: bomb()\n"
      "    except BlockingIOError:\n"
      "      os.write(1, b'.')\n"
      "      time.sleep(600)\n"
      "bomb()",
      {{"user", std::string("games")},
       {"limits.processes", std::int64_t{20}},
       {"limits.output", std::int64_t{10}},
       {"timeout", std::string("60s")}});
  // Eleven of the twenty have been refused a child: the bomb is full.
  EXPECT_EQ(run().error_code, "result_too_large");
  EXPECT_EQ(processes_of(::getpwnam("games")->pw_uid), 0);
}

TEST_F(ProgramLimitsTest, a_kept_program_has_them_too) {
  build(kept_,
        {{"program",
          TaskSettings::Texts{"/bin/sh",
                              "-c",
                              "read -r line; echo \"{\\\"result\\\":$(ulimit -n)}\""}},
         {"limits.open_files", std::int64_t{32}}});
  EXPECT_EQ(run().result, "32");
}

TEST_F(ProgramLimitsTest, settings_that_are_wrong_are_refused_by_name) {
  const auto refusal = [](Values values) {
    values["program"] = TaskSettings::Texts{"true"};
    TaskSettings settings("t", std::move(values));
    const auto added = ExecRuntimeBuilder().add(settings);
    return added ? std::string("taken") : added.error().where + ": " + added.error().detail;
  };
  EXPECT_THAT(refusal({{"limits.memory", std::string("much")}}),
              HasSubstr("task.t.limits.memory: must be a size"));
  EXPECT_THAT(refusal({{"limits.memory", std::int64_t{4096}}}),
              HasSubstr("task.t.limits.memory: must be at least"));
  EXPECT_THAT(refusal({{"limits.cpu", std::string("1500ms")}}),
              HasSubstr("task.t.limits.cpu: must be whole seconds"));
  EXPECT_THAT(refusal({{"limits.cpu", std::int64_t{0}}}),
              HasSubstr("task.t.limits.cpu: must be whole seconds"));
  EXPECT_THAT(refusal({{"limits.open_files", std::int64_t{4}}}),
              HasSubstr("task.t.limits.open_files: must be an integer from 5"));
  EXPECT_THAT(refusal({{"limits.output", std::string("2MiB")}}),
              HasSubstr("task.t.limits.output: a result has at most 1 MiB"));
  EXPECT_THAT(refusal({{"user", std::string("no-such-user")}}),
              HasSubstr("task.t.user: there is no user no-such-user"));
  if (::geteuid() == 0) {
    EXPECT_THAT(refusal({{"limits.processes", std::int64_t{9}}}),
                HasSubstr("task.t.limits.processes: does not bind root"));
  }
}

}  // namespace
}  // namespace sluice::worker_program_limits_test
