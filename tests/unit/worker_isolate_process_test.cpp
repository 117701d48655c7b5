// The inside of an isolate, on a thread of the test, which speaks as the node does.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "common/protocol/codec.h"
#include "worker/runtime/isolate_process.h"
#include "worker/runtime/isolate_wire.h"
#include "worker/runtime/unique_fd.h"

namespace sluice::worker_isolate_process_test {
namespace {

using namespace sluice;

class IsolateProcessTest : public testing::Test {
 protected:
  ~IsolateProcessTest() override { leave(); }

  template <typename Callable>
  void use(Callable handler) {
    handlers_["t"] = make_handler(std::move(handler));
    std::array<int, 2> jobs{};
    std::array<int, 2> stops{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, jobs.data()), 0);
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, stops.data()), 0);
    jobs_ = UniqueFd(jobs[0]);
    stops_ = UniqueFd(stops[0]);
    isolate_ = std::thread([this, far_jobs = jobs[1], far_notes = stops[1]] {
      run_isolate(far_jobs, far_notes, handlers_.at("t"), "test@1", 0);
      // Never closed: the thread that waits for stops may still be about to read the end of its
      // socket, under a number that the next test must not have. A process of its own just ends.
      ::shutdown(far_jobs, SHUT_RDWR);
    });
  }

  void leave() {
    jobs_.reset();
    stops_.reset();
    if (isolate_.joinable()) isolate_.join();
  }

  static std::string run_frame(std::uint64_t number, std::string payload = {}) {
    RunJob job;
    job.id = JobId("a");
    job.fence = {7, 3};
    job.task = "t";
    job.queue = "q";
    job.payload = std::move(payload);
    return isolate_frame(encode_broker_message({{7, number}, sluice::Run{{job}}}));
  }

  void say(std::string_view bytes) {
    ASSERT_EQ(::write(jobs_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  void stop(std::uint64_t number) {
    const IsolateNote stop{.run_number = number};
    ASSERT_EQ(::write(stops_.get(), &stop, sizeof stop), static_cast<ssize_t>(sizeof stop));
  }

  // Nothing at the end of what it says.
  std::optional<WorkerMessage> hear() {
    while (true) {
      if (const auto message = reader_.next()) {
        auto read = decode_worker_message(*message);
        EXPECT_TRUE(read);
        return std::move(*read);
      }
      if (reader_.fill(jobs_.get()) != FrameReader::Fill::some) return std::nullopt;
    }
  }

  AttemptResult result() {
    auto message = hear();
    return message ? std::get<Results>(*message).results.at(0) : AttemptResult{};
  }

  Handlers handlers_;
  UniqueFd jobs_;
  UniqueFd stops_;
  FrameReader reader_;
  std::thread isolate_;
};

std::string wait_until_asked(Task& task) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  task.progress(1, "here");
  never.wait(lock, task.stop_token(), [] { return false; });
  return "asked";
}

TEST_F(IsolateProcessTest, one_job_after_another_is_answered_with_its_result) {
  use([](Task& task) { return task.payload() + "!"; });
  for (const std::uint64_t number : {1, 2, 3}) {
    say(run_frame(number, "hello"));
    const AttemptResult got = result();
    EXPECT_EQ(got.result, "hello!");
    EXPECT_EQ(got.fence, (Fence{7, 3}));
  }
}

TEST_F(IsolateProcessTest, a_frame_may_come_byte_by_byte) {
  use([](Task& task) { return task.payload(); });
  for (const char byte : run_frame(1, "slow"))
    say({&byte, 1});
  EXPECT_EQ(result().result, "slow");
}

TEST_F(IsolateProcessTest, a_stop_wakes_the_handler_of_its_own_job_only) {
  use(wait_until_asked);
  say(run_frame(5));
  EXPECT_EQ(std::get<Progress>(hear().value()).message, "here");
  stop(4);
  stop(5);
  EXPECT_EQ(result().result, "asked");
}

TEST_F(IsolateProcessTest, a_stop_before_its_job_is_remembered) {
  use(wait_until_asked);
  stop(5);
  say(run_frame(5));
  EXPECT_EQ(std::get<Progress>(hear().value()).message, "here");
  EXPECT_EQ(result().result, "asked");
}

TEST_F(IsolateProcessTest, progress_may_come_from_any_thread) {
  use([](Task& task) {
    std::vector<std::thread> threads;
    for (std::uint32_t i = 0; i < 4; ++i)
      threads.emplace_back([&task, i] {
        for (int n = 0; n < 50; ++n)
          task.progress(i, std::string(200, 'p'));
      });
    for (std::thread& thread : threads)
      thread.join();
  });
  say(run_frame(1));
  for (int i = 0; i < 200; ++i)
    ASSERT_TRUE(std::holds_alternative<Progress>(hear().value()));
  EXPECT_EQ(result().outcome, Outcome::completed);
}

TEST_F(IsolateProcessTest, text_that_is_no_text_comes_clean) {
  use([](Task& task) {
    task.progress(200, "\xff\x01");
    throw TaskFailed("a code\n", "\xff words");
  });
  say(run_frame(1));
  const auto progress = std::get<Progress>(hear().value());
  EXPECT_EQ(progress.percent, 100U);
  EXPECT_EQ(progress.message, "??");
  const AttemptResult got = result();
  EXPECT_EQ(got.outcome, Outcome::failed);
  EXPECT_EQ(got.error, "? words");
}

TEST_F(IsolateProcessTest, it_ends_at_what_it_does_not_understand) {
  use([](Task&) {});
  say(isolate_frame("garbage"));
  EXPECT_FALSE(hear());
}

TEST_F(IsolateProcessTest, it_ends_at_a_length_that_no_message_has) {
  use([](Task&) {});
  say("\xff\xff\xff\xff");
  EXPECT_FALSE(hear());
}

TEST_F(IsolateProcessTest, it_ends_with_its_node_also_within_a_frame) {
  use([](Task&) {});
  const std::string frame = run_frame(1, "never");
  say(std::string_view(frame).substr(0, frame.size() - 1));
  leave();  // returns
}

}  // namespace
}  // namespace sluice::worker_isolate_process_test
