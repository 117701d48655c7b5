#include <poll.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <set>
#include <stdexcept>
#include <system_error>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/clock.h"
#include "worker/core/log_buffer.h"
#include "worker/runtime/builtin_tasks.h"
#include "worker/runtime/thread_runtime.h"

namespace sluice::worker_thread_runtime_test {
namespace {

using namespace sluice;

class ThreadRuntimeTest : public testing::Test {
 protected:
  template <typename Callable>
  void use(Callable handler) {
    handlers_["t"] = make_handler(std::move(handler));
    offer("t");
  }

  void offer(const std::string& task) {
    TaskSettings settings(task, {});
    ASSERT_TRUE(builder_.add(settings));
    task_ = task;
    runtime_ = builder_.build();
  }

  void start(const std::string& id, std::string payload = {}) {
    Assignment assignment;
    assignment.job.id = JobId(id);
    assignment.job.fence = {7, 3};
    assignment.job.task = task_;
    assignment.job.payload = std::move(payload);
    assignment.job.content_type = "application/json";
    runtime_->start(std::move(assignment));
  }

  RuntimeEvent next() {
    while (events_.empty()) {
      pollfd item{runtime_->fd(), POLLIN, 0};
      if (::poll(&item, 1, 20'000) == 0) throw std::runtime_error("nothing happened");
      runtime_->poll(clock_now(), events_);
    }
    RuntimeEvent event = std::move(events_.front());
    events_.erase(events_.begin());
    return event;
  }

  AttemptResult result() {
    while (true) {
      RuntimeEvent event = next();
      if (auto* done = std::get_if<AttemptDone>(&event)) return std::move(done->result);
    }
  }

  AttemptProgress progressed() {
    while (true) {
      RuntimeEvent event = next();
      if (auto* said = std::get_if<AttemptProgress>(&event)) return std::move(*said);
    }
  }

  void stop(const std::string& id, StopReason reason) { runtime_->stop(JobId(id), {7, 3}, reason); }

  std::string task_;
  Handlers handlers_ = builtin_handlers();
  int threads_left_ = 1'000;  // that the system gives
  ThreadRuntimeBuilder builder_{handlers_, [this](std::function<void()> body) {
                                  if (threads_left_-- <= 0)
                                    throw std::system_error(EAGAIN, std::generic_category());
                                  std::thread(std::move(body)).detach();
                                }};
  std::unique_ptr<Runtime> runtime_;
  std::vector<RuntimeEvent> events_;
};

TEST_F(ThreadRuntimeTest, what_a_handler_logs_comes_before_its_end) {
  use([](Task& task) {
    task.log("one");
    task.log("two\n");
  });
  start("a");
  std::string log;
  while (true) {
    RuntimeEvent event = next();
    if (const auto* said = std::get_if<AttemptLog>(&event)) log += said->bytes;
    if (std::holds_alternative<AttemptDone>(event)) break;
  }
  EXPECT_EQ(log, "one\ntwo\n");
}

TEST_F(ThreadRuntimeTest, of_a_handler_that_logs_more_than_is_taken_the_end_is_kept) {
  use([](Task& task) {
    for (int i = 0; i < 100'000; ++i)
      task.log("line " + std::to_string(i));
  });
  start("a");
  std::size_t bytes = 0;
  std::string last;
  while (true) {
    RuntimeEvent event = next();
    if (std::holds_alternative<AttemptDone>(event)) break;
    if (const auto* said = std::get_if<AttemptLog>(&event); said != nullptr) {
      EXPECT_LE(said->bytes.size(), 2 * LogBuffer::kBytesMax);
      bytes += said->bytes.size();
      if (!said->bytes.empty()) last = said->bytes;
    }
  }
  EXPECT_GT(bytes, 0U);
  EXPECT_TRUE(last.ends_with("line 99999\n"));
}

TEST_F(ThreadRuntimeTest, what_a_handler_returns_is_the_result) {
  use([](Task& task) { return task.payload() + "!" + task.fence().str(); });
  start("a", "hello");
  const AttemptResult got = result();
  EXPECT_EQ(got.outcome, Outcome::completed);
  EXPECT_EQ(got.result, "hello!7.3");
  EXPECT_EQ(got.id.str(), "a");
}

TEST_F(ThreadRuntimeTest, an_attempt_has_the_cpu_time_of_its_thread) {
  use([](Task&) {
    timespec now{};
    while (now.tv_nsec < 30'000'000)
      ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  });
  start("a");
  const Usage usage = result().usage;
  EXPECT_GE(usage.cpu_ms, 25);
  EXPECT_EQ(usage.rss_bytes_max, 0);
}

TEST_F(ThreadRuntimeTest, an_exception_is_a_failed_attempt_with_its_words) {
  use([](Task&) { throw std::runtime_error("no luck"); });
  start("a");
  const AttemptResult got = result();
  EXPECT_EQ(got.outcome, Outcome::failed);
  EXPECT_EQ(got.error_code, "exception");
  EXPECT_EQ(got.error, "no luck");
  EXPECT_TRUE(got.retryable);
}

TEST_F(ThreadRuntimeTest, a_thrown_task_failed_keeps_its_code) {
  use([](Task&) { throw TaskFailed("bad_ticker", "no such ticker", false); });
  start("a");
  const AttemptResult got = result();
  EXPECT_EQ(got.error_code, "bad_ticker");
  EXPECT_FALSE(got.retryable);
}

TEST_F(ThreadRuntimeTest, something_thrown_that_is_no_exception_ends_only_the_attempt) {
  use([](Task&) { throw 5; });  // NOLINT: that is the test
  start("a");
  EXPECT_EQ(result().error_code, "exception");
  start("b");
  EXPECT_EQ(result().id.str(), "b");
}

TEST_F(ThreadRuntimeTest, attempts_run_side_by_side) {
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  use([&](Task&) {  // ends only when both are inside
    std::unique_lock lock(mutex);
    ++inside;
    changed.notify_all();
    changed.wait(lock, [&] { return inside >= 2; });
  });
  start("a");
  start("b");
  std::set<std::string> ids{result().id.str(), result().id.str()};
  EXPECT_EQ(ids, (std::set<std::string>{"a", "b"}));
}

TEST_F(ThreadRuntimeTest, progress_and_checkpoint_come_before_the_result) {
  use([](Task& task) {
    task.progress(40, "halfway");
    return task.checkpoint("c") ? "recorded" : "not recorded";
  });
  start("a");
  const RuntimeEvent first = next();
  EXPECT_EQ(std::get<AttemptProgress>(first).percent, 40U);
  const RuntimeEvent second = next();
  EXPECT_EQ(std::get<AttemptProgress>(second).checkpoint, "c");
  runtime_->answer({{JobId("a"), {7, 3}}, std::get<AttemptProgress>(second).awaited_n, true});
  EXPECT_EQ(result().result, "recorded");
}

TEST_F(ThreadRuntimeTest, a_checkpoint_is_not_recorded_when_so_answered_or_stopped_meanwhile) {
  use([](Task& task) { return task.checkpoint("c") ? "recorded" : "not recorded"; });
  start("a");
  const std::uint64_t number = progressed().awaited_n;
  runtime_->answer({{JobId("b"), {7, 3}}, number, true});  // somebody else's
  runtime_->answer({{JobId("a"), {7, 3}}, number, false});
  EXPECT_EQ(result().result, "not recorded");
  start("a");
  (void)progressed();
  stop("a", StopReason::hand_back);
  EXPECT_EQ(result().result, "not recorded") << "and nobody waits for the broker for ever";
}

TEST_F(ThreadRuntimeTest, a_handler_that_is_stopped_still_saves_its_place) {
  use([](Task& task) {
    task.progress(1);
    while (!task.stop_requested())
      std::this_thread::yield();
    return task.checkpoint("place") ? "recorded" : "not recorded";
  });
  start("a");
  (void)progressed();  // it is under way
  stop("a", StopReason::hand_back);
  const AttemptProgress saved = progressed();
  EXPECT_EQ(saved.checkpoint, "place");
  runtime_->answer({{JobId("a"), {7, 3}}, saved.awaited_n, true});
  EXPECT_EQ(result().result, "recorded");
}

TEST_F(ThreadRuntimeTest, a_stop_reaches_the_handler_and_its_reason_is_reported) {
  offer("sleep");
  for (const auto& [reason, outcome] : {std::pair{StopReason::cancel, Outcome::cancelled},
                                        {StopReason::hand_back, Outcome::handed_back},
                                        {StopReason::timed_out, Outcome::failed}}) {
    start("a", "3600000");
    runtime_->stop(JobId("a"), {7, 3}, reason);
    EXPECT_EQ(result().outcome, outcome);
  }
}

TEST_F(ThreadRuntimeTest, fail_fails_as_asked) {
  offer("fail");
  start("a", R"({"code":"x","message":"m","retryable":false,"retry_after_ms":5})");
  const AttemptResult got = result();
  EXPECT_EQ(got.error_code, "x");
  EXPECT_EQ(got.error, "m");
  EXPECT_FALSE(got.retryable);
  EXPECT_EQ(got.retry_after_ms, 5);
}

TEST_F(ThreadRuntimeTest, a_handler_that_is_not_there_is_refused_by_name) {
  TaskSettings settings("nothing", {});
  const auto added = builder_.add(settings);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().where, "task.nothing.handler");
}

TEST_F(ThreadRuntimeTest, without_a_thread_an_attempt_is_handed_back_and_the_next_one_is_tried) {
  threads_left_ = 0;
  use([](Task&) { return std::string("done"); });
  start("a");
  const AttemptResult refused = result();
  EXPECT_EQ(refused.outcome, Outcome::handed_back);
  EXPECT_EQ(refused.error_code, "cannot_start");
  threads_left_ = 1;
  start("b");
  EXPECT_EQ(result().result, "done");
  EXPECT_TRUE(runtime_->shut_down());
}

TEST_F(ThreadRuntimeTest, an_attempt_for_which_there_is_no_new_thread_waits_for_one_that_is_there) {
  std::promise<void> go;
  threads_left_ = 1;
  use([&, may_go = go.get_future().share()](Task&) { may_go.wait(); });
  start("a");
  start("b");
  go.set_value();
  const std::set<std::string> ids{result().id.str(), result().id.str()};
  EXPECT_EQ(ids, (std::set<std::string>{"a", "b"}));
}

// It may run elsewhere by then.
TEST_F(ThreadRuntimeTest, an_attempt_that_is_stopped_while_it_waits_for_a_thread_never_runs) {
  std::promise<void> go;
  std::atomic<int> runs = 0;
  threads_left_ = 1;
  use([&, may_go = go.get_future().share()](Task&) {
    ++runs;
    may_go.wait();
  });
  start("a");
  while (runs == 0)
    std::this_thread::yield();
  start("b");
  runtime_->stop(JobId("b"), {7, 3}, StopReason::cancel);
  const AttemptResult stopped = result();
  EXPECT_EQ(stopped.id.str(), "b");
  EXPECT_EQ(stopped.outcome, Outcome::cancelled);
  go.set_value();
  EXPECT_EQ(result().id.str(), "a");
  EXPECT_TRUE(runtime_->shut_down());
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace sluice::worker_thread_runtime_test
