// Every process here is ended and waited for by who started it.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/runtime/descendants.h"

namespace sluice::worker_descendants_test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Not;

// A child that does nothing, and does not outlive a test that crashes.
pid_t idle_child() {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (true)
      ::pause();
  }
  return pid;
}

void end(pid_t pid) {
  EXPECT_EQ(::kill(pid, SIGKILL), 0);
  EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
}

// A child, and a child of that in a session of its own: an orphan once the first is gone. The pid
// of the inner one, when it lives.
pid_t start_two_generations() {
  std::array<int, 2> pipe{};
  if (::pipe(pipe.data()) != 0) return 0;
  const pid_t outer = ::fork();
  if (outer == 0) {
    const pid_t inner = ::fork();
    if (inner == 0) ::setsid();
    if (inner != 0) (void)!::write(pipe[1], &inner, sizeof inner);
    while (true)
      ::pause();
  }
  pid_t inner = 0;
  return ::read(pipe[0], &inner, sizeof inner) == sizeof inner ? inner : 0;
}

TEST(Descendants, children_are_listed_until_they_were_waited_for) {
  const pid_t first = idle_child();
  const pid_t second = idle_child();
  EXPECT_THAT(children_of_self(), AllOf(Contains(first), Contains(second)));
  end(first);
  EXPECT_THAT(children_of_self(), AllOf(Not(Contains(first)), Contains(second)));
  end(second);
}

TEST(Descendants, a_child_that_another_thread_started_is_one_of_ours) {
  std::promise<pid_t> started;
  std::promise<void> seen;
  std::thread thread([&] {
    const pid_t child = idle_child();
    started.set_value(child);
    seen.get_future().wait();  // its children pass to another thread when it ends
    end(child);
  });
  EXPECT_THAT(children_of_self(), Contains(started.get_future().get()));
  seen.set_value();
  thread.join();
}

// In a process of its own, which has no children that are not this test's.
TEST(Descendants, orphans_are_ended_too_and_nothing_is_left_to_wait_for) {
  const pid_t reaper = ::fork();
  if (reaper == 0) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    end_descendants();  // of none: returns
    const pid_t orphan = start_two_generations();
    if (orphan <= 0) ::_exit(1);
    end_descendants();
    if (::kill(orphan, 0) == 0 || errno != ESRCH) ::_exit(2);
    ::_exit(::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(reaper, &status, 0), reaper);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Whoever waits for it would wait for ever.
TEST(Descendants, a_child_is_killed_without_a_free_descriptor_too) {
  const pid_t child = idle_child();
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit none{0, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  kill_tree(child);
  ::setrlimit(RLIMIT_NOFILE, &before);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

// In a subreaper of its own, as it is meant for: the pipe ends when nobody of them is left.
TEST(Descendants, a_tree_is_killed_at_once_down_to_its_last_leaf) {
  const pid_t reaper = ::fork();
  if (reaper == 0) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    std::array<int, 2> held{};
    std::array<int, 2> ready{};
    if (::pipe(held.data()) != 0 || ::pipe(ready.data()) != 0) ::_exit(1);
    const pid_t root = ::fork();
    if (root == 0) {
      int depth = 0;
      while (depth < 5 && ::fork() == 0) {
        ::setsid();
        ++depth;
      }
      if (depth == 5) (void)!::write(ready[1], "x", 1);
      while (true)
        ::pause();
    }
    char byte = 0;
    if (::read(ready[0], &byte, 1) != 1) ::_exit(2);
    ::close(held[1]);
    kill_tree(root);
    ::_exit(::read(held[0], &byte, 1) == 0 ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(reaper, &status, 0), reaper);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace sluice::worker_descendants_test
