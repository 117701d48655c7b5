#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include <gtest/gtest.h>

#include "common/clock.h"
#include "worker/runtime/process_handle.h"

namespace sluice::worker_process_handle_test {
namespace {

using namespace sluice;

TEST(ProcessHandle, tells_when_its_process_has_ended_and_reaches_nobody_afterwards) {
  const pid_t pid = ::fork();
  if (pid == 0)
    while (true)
      ::pause();
  const UniqueFd held = hold_process(pid);
  ASSERT_TRUE(held.is_open());
  EXPECT_FALSE(has_ended_by(held, monotonic_ms()));
  EXPECT_EQ(send_signal(held, SIGKILL), 0);
  EXPECT_TRUE(has_ended_by(held, monotonic_ms() + 20'000));
  EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
  EXPECT_EQ(send_signal(held, 0), -1);
  EXPECT_EQ(errno, ESRCH);
  EXPECT_FALSE(hold_process(pid).is_open());
}

}  // namespace
}  // namespace sluice::worker_process_handle_test
