// What a limit of memory or processes does to real programs and isolates in cgroups.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/real_cgroups.h"
#include "tests/support/runtime_fixture.h"
#include "worker/runtime/exec.h"
#include "worker/runtime/isolate_runtime.h"

namespace sluice::worker_grouped_programs_test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class GroupedProgramsTest : public RuntimeFixture {
 protected:
  void SetUp() override {
    RuntimeFixture::SetUp();
    if (IsSkipped()) return;
    groups_ = real_cgroups().place;
    if (!groups_) GTEST_SKIP() << real_cgroups().reason;
  }

  void python(const std::string& script, Values values) {
    values["program"] = TaskSettings::Texts{"/usr/bin/python3", "-c", script};
    build(exec_, std::move(values));
  }

  ExecRuntimeBuilder exec_;
};

TEST_F(GroupedProgramsTest, processes_that_together_pass_the_limit_of_memory_are_killed) {
  python(
      "import os, time\n"
      "for _ in range(4):\n"
      "    if os.fork() == 0:\n"
      "        kept = b'x' * (24 << 20)\n"
      "        time.sleep(1000)\n"
      "os.wait()\n"
      "raise SystemExit(1)",
      {{"limits.memory", std::string("64MiB")}});
  const AttemptResult result = run();
  EXPECT_EQ(result.error_code, "memory_limit");
  EXPECT_THAT(result.error, StartsWith("out of memory: killed at its limit of 64MiB"));
  EXPECT_TRUE(result.retryable);
  EXPECT_GE(result.usage.rss_bytes_max, 48 << 20);
}

TEST_F(GroupedProgramsTest, addresses_alone_are_no_memory) {
  python("import mmap; mmap.mmap(-1, 256 << 20)", {{"limits.memory", std::string("64MiB")}});
  const AttemptResult result = run();
  EXPECT_EQ(result.outcome, Outcome::completed) << result.error;
}

// Also of root, and of a user who runs other programs.
TEST_F(GroupedProgramsTest, a_fork_bomb_is_held_and_others_of_its_user_are_not) {
  python(
      "import os, time\n"
      "count = 1\n"
      "try:\n"
      "    while os.fork() != 0:\n"
      "        count += 1\n"
      "except BlockingIOError:\n"
      "    os.write(3, b'50 %d\\n' % count)\n"
      "time.sleep(1000)",
      {{"limits.processes", std::int64_t{16}}});
  start("bomb");
  EXPECT_EQ(progress(), "16");
  const pid_t other = ::fork();
  if (other == 0) ::_exit(0);
  EXPECT_EQ(::waitpid(other, nullptr, 0), other);
  stop("bomb", StopReason::cancel);
  EXPECT_EQ(result().outcome, Outcome::cancelled);
}

TEST_F(GroupedProgramsTest, a_group_is_used_again_and_one_jobs_end_is_not_the_nexts) {
  python(
      "import sys\n"
      "print(open('/proc/self/cgroup').read())\n"
      "kept = b'x' * (int(sys.stdin.read()) << 20)",
      {{"limits.memory", std::string("64MiB")}});
  const AttemptResult first = run("1");
  EXPECT_THAT(first.result, HasSubstr("/sluice-"));
  EXPECT_EQ(run("100").error_code, "memory_limit");
  EXPECT_EQ(run("1").result, first.result);
}

TEST_F(GroupedProgramsTest, nothing_is_left_of_a_group_when_its_runtime_is_gone) {
  python("print(open('/proc/self/cgroup').read())", {{"limits.memory", std::string("64MiB")}});
  EXPECT_EQ(run().outcome, Outcome::completed);
  EXPECT_TRUE(runtime_->shut_down());
  EXPECT_EQ(sweep_cgroups(*groups_), 0);
}

TEST_F(GroupedProgramsTest, an_isolate_that_passes_its_limit_of_memory_says_so) {
  const Handlers handlers{{"t", make_handler([](Task&) {
                             constexpr std::size_t kBytes = 300u << 20;
                             (void)::mmap(nullptr,
                                          kBytes,
                                          PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                                          -1,
                                          0);
                           })}};
  IsolateRuntimeBuilder isolates(handlers);
  build(isolates, {{"limits.memory", std::string("256MiB")}});
  const AttemptResult result = run();
  EXPECT_EQ(result.error_code, "memory_limit");
  EXPECT_EQ(result.error, "isolate out of memory: killed at its limit of 256MiB");
}

}  // namespace
}  // namespace sluice::worker_grouped_programs_test
