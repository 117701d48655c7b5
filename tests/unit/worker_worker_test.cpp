#include "worker/sdk/worker.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "worker/runtime/life.h"

namespace sluice::worker_worker_test {
namespace {

constexpr int kWrongUsage = 2;

std::string said_by(Worker& worker) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(worker.run(), kWrongUsage);
  return testing::internal::GetCapturedStderr();
}

TEST(Worker, a_concurrency_out_of_its_bounds_is_refused_before_anything_begins) {
  for (const std::uint32_t count : {0U, kConcurrencyMax + 1}) {
    Worker worker;
    worker.concurrency(count).on("echo", [](Task& task) { return task.payload(); });
    EXPECT_EQ(said_by(worker),
              "worker: concurrency is " + std::to_string(count) + ", allowed are 1 to 10000\n");
  }
}

TEST(Worker, without_a_task_there_is_nothing_to_run) {
  Worker worker;
  EXPECT_EQ(said_by(worker), "worker: no task: call on(task, handler) before run()\n");
}

// No file of this process grows while it lives, as on a full disk.
class FullDisk {
 public:
  FullDisk() {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit none{0, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &none);
  }

  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    (void)::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = ::signal(SIGXFSZ, SIG_IGN);
};

TEST(Life, on_a_full_disk_no_life_begins_and_the_one_before_is_not_forgotten) {
  std::string directory = testing::TempDir() + "lifeXXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const std::string first = begin_life("a-long-name", directory).node();
  {
    const FullDisk full;
    EXPECT_THROW((void)begin_life("n", directory), std::runtime_error);
  }
  const std::string second = [&] {
    const Life life = begin_life("n", directory);
    EXPECT_EQ(life.replaces(), first);
    return life.node();
  }();
  EXPECT_EQ(begin_life("n", directory).replaces(), second);  // of a shorter line, nothing is left
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace sluice::worker_worker_test
