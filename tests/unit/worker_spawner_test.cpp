// The spawner's process, and the lines to it. Waiting is always for an event, never for a time.
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "worker/runtime/spawner.h"

namespace sluice::worker_spawner_test {
namespace {

// A program that ends by itself with this code.
SpawnRequest exits_with(int code, int nothing) {
  return {.id = 7,
          .argv = {"/bin/sh", "-c", "exit " + std::to_string(code)},
          .environment = {},
          .cwd = {},
          .stdin_fd = nothing,
          .stdout_fd = nothing,
          .stderr_fd = nothing};
}

SpawnReport next_report(SpawnerChannel& channel) {
  std::vector<SpawnReport> reports;
  while (reports.empty()) {
    pollfd item{channel.fd(), POLLIN, 0};
    if (::poll(&item, 1, 20'000) != 1) throw std::runtime_error("no report");
    if (!channel.read(reports)) throw std::runtime_error("the spawner is gone");
  }
  return reports.at(0);
}

TEST(Spawner, waits_for_a_thread_that_is_ending_and_refuses_one_that_stays) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer has a thread of its own";
#endif
  std::thread([] { ::usleep(50'000); }).detach();
  Spawner spawner;
  (void)spawner.open_channel();
  EXPECT_NO_THROW(spawner.fork());
  std::promise<void> over;
  std::thread stays([&] { over.get_future().wait(); });
  Spawner refused;
  (void)refused.open_channel();
  EXPECT_THROW(refused.fork(), std::runtime_error);
  over.set_value();
  stays.join();
}

TEST(Spawner, a_channel_may_be_opened_when_it_runs_but_not_when_there_is_none) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer has a thread of its own";
#endif
  Spawner spawner;
  (void)spawner.open_channel();
  spawner.fork();
  std::thread([] {}).join();
  SpawnerChannel& later = spawner.open_channel();
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ASSERT_EQ(later.spawn(exits_with(5, nothing)), 0);
  ::close(nothing);
  const SpawnReport report = next_report(later);
  EXPECT_EQ(report.id, 7U);
  EXPECT_EQ(WEXITSTATUS(report.wait_status), 5);
  Spawner none;
  none.fork();
  EXPECT_THROW((void)none.open_channel(), std::runtime_error);
}

// A node is forked that runs a program which escapes; the node dies by SIGKILL. The program holds a
// pipe open; that the pipe ends is the proof that it is gone.
TEST(Spawner, leaves_no_orphan_when_the_node_is_killed) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer starts a thread after a fork, and a spawner wants to be alone";
#endif
  int held[2];
  int ready[2];
  ASSERT_EQ(::pipe(held), 0);
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t node = ::fork();
  ASSERT_GE(node, 0);
  if (node == 0) {
    Spawner spawner;
    SpawnerChannel& channel = spawner.open_channel();
    spawner.fork();
    const int error = channel.spawn(
        {.id = 1,
         .argv = {"/bin/sh", "-c", "trap '' TERM; setsid sleep 1000 & echo up; exec sleep 1000"},
         .environment = {},
         .cwd = {},
         .stdin_fd = 0,
         .stdout_fd = ready[1],
         .stderr_fd = held[1]});
    ::close(held[1]);
    ::close(ready[1]);
    if (error != 0) ::_exit(1);
    while (true)
      ::pause();
  }
  ::close(held[1]);
  ::close(ready[1]);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(::kill(node, SIGKILL), 0);
  ASSERT_EQ(::waitpid(node, nullptr, 0), node);
  pollfd item{held[0], POLLIN, 0};
  ASSERT_EQ(::poll(&item, 1, 20'000), 1);
  EXPECT_EQ(::read(held[0], &byte, 1), 0);
  ::close(held[0]);
  ::close(ready[0]);
}

// It reads nothing while it is stopped. What nobody would hear of is not taken for a channel.
TEST(Spawner, a_channel_that_it_has_no_room_for_is_none) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer has a thread of its own";
#endif
  Spawner spawner;
  (void)spawner.open_channel();
  spawner.fork();
  ASSERT_EQ(::kill(spawner.pid(), SIGSTOP), 0);
  std::size_t opened = spawner.channel_count();
  try {
    while (spawner.open_channel().fd() >= 0)
      ++opened;
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "the spawner takes no channel: it reads nothing now");
  }
  EXPECT_EQ(spawner.channel_count(), opened);
  ASSERT_EQ(::kill(spawner.pid(), SIGCONT), 0);
}

TEST(Spawner, lives_on_when_a_channel_is_given_up_while_it_is_stopped) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer has a thread of its own";
#endif
  Spawner spawner;
  SpawnerChannel& used = spawner.open_channel();
  SpawnerChannel& idle = spawner.open_channel();
  spawner.fork();
  ASSERT_EQ(::kill(spawner.pid(), SIGSTOP), 0);
  idle.close_idle();
  ASSERT_EQ(::kill(spawner.pid(), SIGCONT), 0);
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ASSERT_EQ(used.spawn(exits_with(5, nothing)), 0);
  ::close(nothing);
  EXPECT_EQ(WEXITSTATUS(next_report(used).wait_status), 5);
}

// It must not go on as a second node, in what called fork().
TEST(Spawner, an_isolate_whose_own_code_throws_ends_there) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer starts a thread after a fork, and a spawner wants to be alone";
#endif
  Spawner spawner;
  SpawnerChannel& channel = spawner.open_channel();
  spawner.set_isolate_main([](int, int, const std::string&, const ProgramLimits&) {
    throw std::runtime_error("it has no memory");
  });
  spawner.fork();
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ASSERT_EQ(channel.isolate(7, "t", {}, {nothing, nothing, nothing}), 0);
  ::close(nothing);
  const SpawnReport report = next_report(channel);
  EXPECT_TRUE(WIFEXITED(report.wait_status));
  EXPECT_EQ(WEXITSTATUS(report.wait_status), 70);
}

}  // namespace
}  // namespace sluice::worker_spawner_test
