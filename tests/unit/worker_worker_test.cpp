#include "worker/sdk/worker.h"

#include <string>

#include <gtest/gtest.h>

#include "common/limits.h"

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

}  // namespace
}  // namespace sluice::worker_worker_test
