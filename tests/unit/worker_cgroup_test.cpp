// On the kernel itself. Making, entering, ending and sweeping groups is tested in the tree of v2,
// whatever that counts, for which it has to be root; limits where it was given a group
// (tests/unit/own_kernel.sh sees to that).
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/real_cgroups.h"
#include "worker/runtime/cgroup.h"

namespace sluice::worker_cgroup_test {
namespace {

namespace fs = std::filesystem;

// A child that does this and ends with what it returns; not outliving a test that crashes.
pid_t start(const std::function<int()>& work) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::_exit(work());
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

int run(const std::function<int()>& work) {
  return wait_for(start(work));
}

int forever() {
  while (true)
    ::pause();
}

// ---------------------------------------------------------------- whatever the tree counts

class CgroupTreeTest : public testing::Test {
 protected:
  // The mount is seen in a namespace of this thread, and gone with it.
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "sluice-tree-XXXXXX";
    mount_ = ::mkdtemp(pattern.data());
    const bool is_mounted = ::unshare(CLONE_NEWNS) == 0 &&
                            ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                            ::mount("none", mount_.c_str(), "cgroup2", 0, nullptr) == 0;
    if (!is_mounted) GTEST_SKIP() << "only root may mount the tree of groups";
    root_ = mount_ + own_group() + "/test-" + std::to_string(::getpid());
    if (!fs::create_directory(root_)) FAIL() << root_;
    place_ = {.is_unified = true, .memory_path = root_, .processes_path = root_};
  }

  void TearDown() override {
    if (!root_.empty()) {
      EXPECT_EQ(::rmdir(root_.c_str()), 0);
      EXPECT_EQ(::umount(mount_.c_str()), 0);
    }
    fs::remove(mount_);
  }

  static std::string own_group() {
    std::ifstream file("/proc/self/cgroup");
    for (std::string line; std::getline(file, line);)
      if (line.starts_with("0::")) return line.substr(3);
    return "";
  }

  Cgroup make() {
    auto made = Cgroup::make(place_);
    EXPECT_TRUE(made) << std::strerror(made.error());
    return made ? std::move(*made) : Cgroup();
  }

  // Groups, not the files of the uppermost one.
  int group_count() const {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(root_))
      count += entry.is_directory() ? 1 : 0;
    return count;
  }

  std::string mount_;
  std::string root_;
  CgroupPlace place_;
};

TEST_F(CgroupTreeTest, one_that_is_removed_is_gone_with_all_that_was_in_it) {
  Cgroup group = make();
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  // Its child is in it too, in another session, and tells of its end by closing the pipe.
  const pid_t child = start([&] {
    if (group.enter() != 0 || ::fork() < 0) return 1;
    ::setsid();
    (void)!::write(pipe[1], "x", 1);
    return forever();
  });
  ::close(pipe[1]);
  char byte = 0;
  for (int begun = 0; begun < 2; ++begun)
    ASSERT_EQ(::read(pipe[0], &byte, 1), 1);
  group.remove();
  EXPECT_EQ(::read(pipe[0], &byte, 1), 0);
  ::close(pipe[0]);
  EXPECT_TRUE(WIFSIGNALED(wait_for(child)));
  EXPECT_FALSE(group.is_made());
  EXPECT_EQ(group_count(), 0);
}

TEST_F(CgroupTreeTest, it_is_entered_between_vfork_and_exec) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP()
      << "ThreadSanitizer makes a fork of vfork, which goes on before the other has entered";
#endif
  Cgroup group = make();
  const pid_t child = ::vfork();
  if (child == 0) {
    if (group.enter() == 0) ::execl("/bin/sleep", "sleep", "1000", nullptr);
    ::_exit(1);
  }
  group.remove();
  const int status = wait_for(child);
  EXPECT_TRUE(WIFSIGNALED(status)) << "it was not in the group: exit " << WEXITSTATUS(status);
}

TEST_F(CgroupTreeTest, what_an_earlier_node_left_is_swept_and_what_a_living_one_has_is_not) {
  Cgroup living = make();
  const pid_t in_living = start([&] { return living.enter() == 0 ? forever() : 1; });
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  run([&] {
    const Cgroup left = make();
    if (::fork() != 0) ::raise(SIGKILL);
    ::dup2(pipe[1], 1);
    if (left.enter() == 0) ::execl("/bin/sh", "sh", "-c", "echo; exec sleep 1000", nullptr);
    return 1;
  });
  ::close(pipe[1]);
  char byte = 0;
  ASSERT_EQ(::read(pipe[0], &byte, 1), 1);  // it is another program now, and holds no lock
  EXPECT_EQ(sweep_cgroups(place_), 1);
  EXPECT_EQ(::read(pipe[0], &byte, 1), 0);
  ::close(pipe[0]);
  EXPECT_EQ(group_count(), 1);
  EXPECT_EQ(::waitpid(in_living, nullptr, WNOHANG), 0);
  living.remove();
  EXPECT_TRUE(WIFSIGNALED(wait_for(in_living)));
}

// ---------------------------------------------------------------- limits

class CgroupLimitsTest : public RealCgroupTest {
 protected:
  void SetUp() override {
    RealCgroupTest::SetUp();
    if (IsSkipped()) return;
    auto made = Cgroup::make(place());
    ASSERT_TRUE(made) << std::strerror(made.error());
    group_ = std::move(*made);
  }

  void TearDown() override { group_.remove(); }

  // 0 when it could have them.
  static int touch(std::size_t bytes) {
    void* all = ::mmap(nullptr,
                       bytes,
                       PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                       -1,
                       0);
    return all == MAP_FAILED ? 1 : 0;
  }

  int run_in_group(const std::function<int()>& work) {
    return run([&] { return group_.enter() == 0 ? work() : 99; });
  }

  Cgroup group_;
};

constexpr std::size_t kMiB = 1 << 20;

TEST_F(CgroupLimitsTest, processes_that_together_pass_the_limit_of_memory_are_killed) {
  ASSERT_EQ(group_.begin({.memory_bytes = 64 * kMiB}), 0);
  run_in_group([] {
    std::array<pid_t, 4> children{};
    for (pid_t& child : children)
      child = start([] { return touch(24 * kMiB) == 0 ? forever() : 1; });
    // Until one is killed: v2 kills all, this one included.
    return wait_for(-1);
  });
  const CgroupUsage usage = group_.usage();
  EXPECT_TRUE(usage.has_run_out);
  EXPECT_GE(usage.memory_bytes_max, static_cast<std::int64_t>(48 * kMiB));
  EXPECT_LE(usage.memory_bytes_max, static_cast<std::int64_t>(64 * kMiB));
}

TEST_F(CgroupLimitsTest, what_stays_below_is_unharmed_and_its_peak_is_known) {
  ASSERT_EQ(group_.begin({.memory_bytes = 64 * kMiB}), 0);
  EXPECT_EQ(run_in_group([] { return touch(24 * kMiB); }), 0);
  EXPECT_FALSE(group_.usage().has_run_out);
  EXPECT_GE(group_.usage().memory_bytes_max, static_cast<std::int64_t>(24 * kMiB));
}

TEST_F(CgroupLimitsTest, the_next_job_has_limits_and_counters_of_its_own) {
  ASSERT_EQ(group_.begin({.memory_bytes = 16 * kMiB}), 0);
  EXPECT_TRUE(WIFSIGNALED(run_in_group([] { return touch(64 * kMiB); })));
  EXPECT_TRUE(group_.usage().has_run_out);
  ASSERT_EQ(group_.begin({.memory_bytes = 128 * kMiB}), 0);
  EXPECT_EQ(run_in_group([] { return touch(64 * kMiB); }), 0);
  EXPECT_FALSE(group_.usage().has_run_out);
  ASSERT_EQ(group_.begin({.memory_bytes = 16 * kMiB}), 0);
  // Known, if the kernel can forget; never that of the job before.
  EXPECT_EQ(run_in_group([] { return touch(4 * kMiB); }), 0);
  EXPECT_LE(group_.usage().memory_bytes_max, static_cast<std::int64_t>(16 * kMiB));
  ASSERT_EQ(group_.begin({}), 0);
  EXPECT_EQ(run_in_group([] { return touch(160 * kMiB); }), 0);
}

TEST_F(CgroupLimitsTest, the_limit_of_processes_holds_those_in_the_group_and_no_others) {
  constexpr int kMost = 8;
  ASSERT_EQ(group_.begin({.processes = kMost}), 0);
  const int status = run_in_group([] {
    int count = 1;
    while (start(forever) > 0)
      ++count;
    return errno == EAGAIN ? count : 0;
  });
  EXPECT_EQ(WEXITSTATUS(status), kMost);
  EXPECT_EQ(run([] { return 7; }), 7 << 8);  // of the same user, outside
}

TEST_F(CgroupLimitsTest, one_in_whose_memory_files_were_left_is_worn) {
  ASSERT_EQ(group_.begin({.memory_bytes = 32 * kMiB}), 0);
  EXPECT_EQ(run_in_group([] { return touch(24 * kMiB); }), 0);
  EXPECT_FALSE(group_.is_worn());
  const int file = ::memfd_create("left", MFD_CLOEXEC);
  EXPECT_EQ(run_in_group([file] {
              const std::string part(8 * kMiB, 'x');
              return ::write(file, part.data(), part.size()) > 0 ? 0 : 1;
            }),
            0);
  EXPECT_TRUE(group_.is_worn());
  ::close(file);
}

}  // namespace
}  // namespace sluice::worker_cgroup_test
