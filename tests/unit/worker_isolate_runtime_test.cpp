// Real isolates under a real spawner. Waiting is always for an event, never for a time.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <mutex>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/log.h"
#include "tests/support/runtime_fixture.h"
#include "worker/runtime/builtin_tasks.h"
#include "worker/runtime/isolate_runtime.h"
#include "worker/runtime/unique_fd.h"

namespace sluice::worker_isolate_runtime_test {
namespace {

using namespace sluice;
using testing::HasSubstr;

using Values = std::map<std::string, TaskSettings::Value>;

class IsolateTest : public RuntimeFixture {
 protected:
  template <typename Callable>
  void use(Callable handler, Values values = {}) {
    handlers_["t"] = make_handler(std::move(handler));
    build(builder_, std::move(values));
  }

  Handlers handlers_;
  IsolateRuntimeBuilder builder_{handlers_};
};

std::string own_pid(Task&) {
  return std::to_string(::getpid());
}

// A process that nobody waits for, in a session of its own.
pid_t leave_behind() {
  std::array<int, 2> pipe{};
  if (::pipe(pipe.data()) != 0) std::abort();
  if (::fork() == 0) {
    ::setsid();
    if (::fork() == 0) {
      const pid_t self = ::getpid();
      (void)!::write(pipe[1], &self, sizeof self);
      while (true)
        ::pause();
    }
    ::_exit(0);
  }
  pid_t pid = 0;
  if (::read(pipe[0], &pid, sizeof pid) != sizeof pid) std::abort();
  return pid;
}

bool exists(const std::string& pid) {
  return ::kill(std::stoi(pid), 0) == 0;
}

TEST_F(IsolateTest, a_handler_runs_in_a_process_of_its_own_which_is_used_again) {
  use(own_pid);
  const std::string first = run().result;
  EXPECT_NE(first, std::to_string(::getpid()));
  EXPECT_EQ(run().result, first);
  EXPECT_EQ(figures().total, 1U);
  EXPECT_EQ(figures().jobs, 2U);
}

TEST_F(IsolateTest, the_attempt_is_seen_as_on_a_thread_of_the_node) {
  use([](Task& task) {
    return std::string(task.id()) + " " + task.fence().str() + " " + task.name() + " " +
           task.queue() + " " + task.content_type() + " " + task.payload();
  });
  EXPECT_EQ(run("hello").result, "a 7.3 t q text/plain hello");
}

TEST_F(IsolateTest, what_a_handler_logs_is_the_jobs_log) {
  use([](Task& task) {
    task.log("one");
    task.log(std::string(2 * kLogChunkBytesMax, 'x'));
    task.log("");
    return "done";
  });
  EXPECT_EQ(run().result, "done");
  EXPECT_EQ(log_["a"], "one\n" + std::string(2 * kLogChunkBytesMax, 'x') + "\n\n");
}

TEST_F(IsolateTest, what_a_handler_prints_is_the_jobs_log) {
  use([](Task& task) {
    std::cerr << task.payload() << " cerr\n";
    std::printf("printf\n");
    std::cout << "cout";
    std::fputs(" and no newline", stdout);
  });
  for (const std::string job : {"first", "second"}) {
    start(job, job);
    EXPECT_EQ(result().outcome, Outcome::completed);
    EXPECT_EQ(log_[job], job + " cerr\nprintf\ncout and no newline");
  }
}

TEST_F(IsolateTest, a_printed_line_comes_while_the_handler_goes_on) {
  use([](Task& task) {
    std::puts("a line");
    while (!task.stop_requested())
      ::usleep(1'000);
  });
  start("a");
  while (events_.empty())
    turn();
  EXPECT_EQ(std::get<AttemptLog>(events_.front()).bytes, "a line\n");
  stop("a", StopReason::cancel);
  (void)result();
}

TEST_F(IsolateTest, what_is_printed_between_two_words_comes_between_them) {
  use([](Task& task) {
    for (int i = 0; i < 300; ++i) {
      task.progress(1, "x");
      std::cerr << i << "\n";
    }
  });
  std::string all;
  for (int i = 0; i < 300; ++i)
    all += std::to_string(i) + "\n";
  for (const std::string job : {"a", "b", "c"}) {
    start(job);
    (void)result();
    EXPECT_EQ(log_[job], all);
  }
}

TEST_F(IsolateTest, the_last_words_before_a_crash_are_its_reason_and_in_the_log) {
  use([](Task& task) -> std::string {
    std::fprintf(stderr, "%s\n", task.payload().c_str());
    if (task.payload() == "wrong") std::abort();
    return std::string();
  });
  (void)run("right");
  log_.clear();
  EXPECT_EQ(run("wrong").error, "isolate crashed: SIGABRT\nwrong\n");
  EXPECT_EQ(log_["a"], "wrong\n");
}

TEST_F(IsolateTest, what_is_printed_between_two_jobs_is_in_the_node_s_own_log) {
  use([](Task& task) {
    std::thread([gate = task.payload()] {
      const UniqueFd opened(::open(gate.c_str(), O_RDONLY));
      std::cerr << "late\n";
    }).detach();
  });
  const std::string gate = testing::TempDir() + "between_jobs_" + std::to_string(::getpid());
  ASSERT_EQ(::mkfifo(gate.c_str(), 0600), 0);
  EXPECT_EQ(run(gate).outcome, Outcome::completed);
  log::set_up({});
  const UniqueFd opened(::open(gate.c_str(), O_WRONLY));
  std::string said;
  while (said.empty()) {
    testing::internal::CaptureStderr();
    turn();
    said = testing::internal::GetCapturedStderr();
  }
  EXPECT_THAT(said, HasSubstr(R"(output_between_jobs task=t text="late\n")"));
  EXPECT_EQ(log_.count("a"), 0U);
  ::unlink(gate.c_str());
}

TEST_F(IsolateTest, a_large_payload_and_a_large_result_pass) {
  use([](Task& task) { return task.payload(); });
  std::string payload(kPayloadBytesMax, 'x');
  payload[5] = '\0';
  const AttemptResult got = run(payload);
  EXPECT_EQ(got.outcome, Outcome::completed);
  EXPECT_EQ(got.result, payload);
}

TEST_F(IsolateTest, one_byte_too_many_is_refused_for_good) {
  use([](Task&) { return std::string(kResultBytesMax + 1, 'x'); });
  const AttemptResult got = run();
  EXPECT_EQ(got.error_code, "result_too_large");
  EXPECT_FALSE(got.retryable);
}

TEST_F(IsolateTest, an_exception_fails_the_attempt_and_not_the_isolate) {
  use([](Task& task) -> std::string {
    if (task.payload() == "throw") throw TaskFailed("bad \x01 ticker", "no such ticker", false);
    return std::to_string(::getpid());
  });
  const std::string pid = run().result;
  const AttemptResult got = run("throw");
  EXPECT_EQ(got.outcome, Outcome::failed);
  EXPECT_EQ(got.error, "no such ticker");
  EXPECT_FALSE(got.retryable);
  EXPECT_EQ(run().result, pid);
}

TEST_F(IsolateTest, a_crash_costs_that_one_attempt_and_says_the_signal) {
  use([](Task& task) -> std::string {
    if (task.payload() == "crash") ::raise(SIGSEGV);
    return std::to_string(::getpid());
  });
  const std::string pid = run().result;
  const AttemptResult got = run("crash");
  EXPECT_EQ(got.outcome, Outcome::failed);
  EXPECT_EQ(got.error_code, "isolate_crashed");
  EXPECT_EQ(got.error, "isolate crashed: SIGSEGV");
  EXPECT_TRUE(got.retryable);
  EXPECT_EQ(figures().total, 1U);  // replaced at once
  EXPECT_EQ(figures().crashes, 1U);
  EXPECT_NE(run().result, pid);
}

TEST_F(IsolateTest, a_handler_that_ends_the_process_is_told_by_its_code) {
  use([](Task&) { ::_exit(3); });
  const AttemptResult got = run();
  EXPECT_EQ(got.error_code, "isolate_crashed");
  EXPECT_EQ(got.error, "isolate exited with code 3");
}

TEST_F(IsolateTest, a_handler_that_spoils_its_socket_fails_alone) {
  use([](Task&) {
    const std::string garbage(100, '\xff');
    for (int fd = 3; fd < 20; ++fd)
      (void)!::write(fd, garbage.data(), garbage.size());
  });
  EXPECT_EQ(run().error_code, "isolate_broken");
  EXPECT_EQ(run().error_code, "isolate_broken");
}

TEST_F(IsolateTest, progress_and_checkpoint_come_before_the_result) {
  use([](Task& task) {
    task.progress(40, "halfway");
    return task.checkpoint("c") ? "recorded" : "not recorded";
  });
  start("a");
  const RuntimeEvent first = next();
  EXPECT_EQ(std::get<AttemptProgress>(first).percent, 40U);
  EXPECT_EQ(std::get<AttemptProgress>(first).message, "halfway");
  const RuntimeEvent second = next();
  EXPECT_EQ(std::get<AttemptProgress>(second).checkpoint, "c");
  runtime_->answer({{JobId("a"), {7, 3}}, std::get<AttemptProgress>(second).awaited_n, true});
  EXPECT_EQ(result().result, "recorded");
}

TEST_F(IsolateTest, a_checkpoint_of_an_attempt_that_is_not_current_any_more_is_not_recorded) {
  use([](Task& task) { return task.checkpoint("c") ? "recorded" : "not recorded"; });
  start("a");
  const std::uint64_t number = progressed().awaited_n;
  runtime_->answer({{JobId("b"), {7, 3}}, number, true});  // somebody else's
  runtime_->answer({{JobId("a"), {7, 3}}, number, false});
  EXPECT_EQ(result().result, "not recorded");
}

// Asleep until it is asked to stop; then it says its pid.
std::string wait_for_stop(Task& task) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  if (task.payload() == "now") return std::to_string(::getpid());
  task.progress(1, std::to_string(::getpid()));
  never.wait(lock, task.stop_token(), [] { return false; });
  return "stopped";
}

TEST_F(IsolateTest, a_stop_reaches_the_handler_and_the_isolate_lives_on) {
  use(wait_for_stop);
  const std::string pid = run("now").result;
  for (const auto& [reason, outcome] : {std::pair{StopReason::cancel, Outcome::cancelled},
                                        {StopReason::hand_back, Outcome::completed},
                                        {StopReason::timed_out, Outcome::failed}}) {
    start("a");
    EXPECT_EQ(progress(), pid);
    stop("a", reason);
    EXPECT_EQ(result().outcome, outcome);
  }
  EXPECT_EQ(run("now").result, pid);
}

TEST_F(IsolateTest, a_stop_that_overtakes_the_job_is_not_lost) {
  use(wait_for_stop);
  start("a");
  stop("a", StopReason::cancel);
  EXPECT_EQ(result().outcome, Outcome::cancelled);
}

TEST_F(IsolateTest, one_that_does_not_heed_a_stop_is_killed_with_everything_it_started) {
  use(
      [](Task& task) {
        task.progress(1, std::to_string(leave_behind()));
        while (true)
          ::pause();
      },
      {{"grace", std::int64_t{1}}});
  start("a");
  const std::string left = progress();
  EXPECT_TRUE(exists(left));
  stop("a", StopReason::cancel);
  EXPECT_EQ(result().outcome, Outcome::cancelled);
  EXPECT_FALSE(exists(left));
  EXPECT_EQ(figures().total, 1U);
}

TEST_F(IsolateTest, the_time_out_of_the_task_holds_beside_the_one_of_the_job) {
  use(
      [](Task& task) {
        if (!task.remaining_ms()) return std::string("no time-out");
        while (!task.stop_requested())
          ::usleep(1000);
        return std::string("late");
      },
      {{"timeout", std::int64_t{20}}});
  const AttemptResult got = run();
  EXPECT_EQ(got.error_code, "timeout");
  EXPECT_EQ(got.outcome, Outcome::failed);
}

TEST_F(IsolateTest, what_a_job_leaves_behind_is_gone_before_its_result) {
  use([](Task&) { return std::to_string(leave_behind()); });
  const AttemptResult got = run();
  EXPECT_EQ(got.outcome, Outcome::completed);
  EXPECT_FALSE(exists(got.result));
  EXPECT_EQ(figures().total, 1U);
}

TEST_F(IsolateTest, what_a_crashed_job_leaves_behind_is_gone_before_its_result) {
  use([](Task& task) {
    task.progress(1, std::to_string(leave_behind()));
    std::abort();
  });
  start("a");
  const std::string left = progress();
  EXPECT_EQ(result().error, "isolate crashed: SIGABRT");
  EXPECT_FALSE(exists(left));
}

TEST_F(IsolateTest, without_reuse_every_job_has_a_fresh_process) {
  use(own_pid, {{"reuse", false}});
  std::set<std::string> pids;
  for (int i = 0; i < 5; ++i) {
    const std::string pid = run().result;
    EXPECT_FALSE(exists(pid));
    pids.insert(pid);
  }
  EXPECT_EQ(pids.size(), 5U);
  EXPECT_EQ(figures().crashes, 0U);
}

TEST_F(IsolateTest, one_is_replaced_after_so_many_jobs) {
  use(own_pid, {{"recycle_after", std::int64_t{2}}});
  const std::string first = run().result;
  EXPECT_EQ(run().result, first);
  EXPECT_NE(run().result, first);
  EXPECT_EQ(figures().recycles, 1U);
}

TEST_F(IsolateTest, one_is_replaced_when_it_had_too_much_memory) {
  use(
      [](Task& task) {
        if (task.payload() == "much") {
          constexpr std::size_t kBytes = 512 << 20;
          void* memory = ::mmap(nullptr,
                                kBytes,
                                PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                                -1,
                                0);
          ::munmap(memory, kBytes);
        }
        return std::to_string(::getpid());
      },
      {{"recycle_memory", std::string("500MiB")}});
  const std::string first = run().result;
  const AttemptResult much = run("much");
  EXPECT_EQ(much.result, first);
  EXPECT_GT(much.usage.rss_bytes_max, 500 << 20);
  EXPECT_NE(run().result, first);
}

// Has so many MiB, and gives them back.
void have_mib(std::size_t mib) {
  void* memory = ::mmap(nullptr,
                        mib << 20,
                        PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                        -1,
                        0);
  ::munmap(memory, mib << 20);
}

TEST_F(IsolateTest, the_peak_memory_of_an_attempt_is_none_of_the_next_one) {
  use([](Task& task) { have_mib(std::stoul(task.payload())); });
  const std::int64_t much = run("64").usage.rss_bytes_max;
  EXPECT_GE(much, 64 << 20);
  EXPECT_LT(run("1").usage.rss_bytes_max, much - (32 << 20));
}

TEST_F(IsolateTest, a_crash_has_the_usage_of_its_own_attempt_and_not_of_those_before) {
  use([](Task& task) {
    if (task.payload() == "crash") ::raise(SIGSEGV);
    have_mib(64);
    const std::clock_t end = std::clock() + CLOCKS_PER_SEC / 5;
    while (std::clock() < end) {
    }
  });
  const Usage first = run().usage;
  const Usage crash = run("crash").usage;
  EXPECT_GE(first.cpu_ms, 200);
  EXPECT_LT(crash.cpu_ms, 200);
  EXPECT_LT(crash.rss_bytes_max, first.rss_bytes_max - (32 << 20));
}

TEST_F(IsolateTest, what_an_attempt_left_behind_counts_with_it) {
  use([](Task& task) {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) std::abort();
    if (::fork() == 0) {
      ::setsid();
      const std::clock_t end = std::clock() + CLOCKS_PER_SEC / 5;
      while (std::clock() < end) {
      }
      (void)!::write(pipe[1], "x", 1);
      while (true)
        ::pause();
    }
    char burnt = 0;
    if (::read(pipe[0], &burnt, 1) == 1) task.progress(1, "burnt");
    while (!task.stop_requested())
      ::usleep(1'000);
    if (task.payload() == "crash") ::raise(SIGKILL);
  });
  for (const char* how : {"end", "crash"}) {
    start("a", how);
    EXPECT_EQ(progress(), "burnt");
    stop("a", StopReason::hand_back);
    EXPECT_GE(result().usage.cpu_ms, 200) << how;
  }
}

TEST_F(IsolateTest, the_built_in_crash_dies_as_it_is_told_in_its_first_attempts) {
  handlers_["t"] = crashing_handlers().at("crash");
  build(builder_, {});
  const auto crash = [&](const std::string& payload) {
    start("a", payload, kNever, "application/json");
    return result();
  };
  EXPECT_EQ(crash("").error, "isolate crashed: SIGSEGV\nraising SIGSEGV, as asked\n");
  EXPECT_EQ(crash(R"({"signal": "SIGABRT", "attempts": 3})").error,
            "isolate crashed: SIGABRT\nraising SIGABRT, as asked\n");
  EXPECT_EQ(crash(R"({"attempts": 2})").result, "3");
}

TEST_F(IsolateTest, the_pool_starts_with_the_configured_number) {
  use(own_pid, {{"isolates_min", std::int64_t{3}}});
  EXPECT_EQ(figures().total, 3U);
  EXPECT_EQ(figures().busy, 0U);
}

TEST_F(IsolateTest, the_pool_grows_by_demand_and_a_job_beyond_the_maximum_waits) {
  use(wait_for_stop, {{"isolates_max", std::int64_t{2}}});
  start("a");
  start("b");
  start("c");
  const std::string one = progress();
  const std::string other = progress();
  EXPECT_NE(one, other);
  EXPECT_EQ(figures().total, 2U);
  EXPECT_EQ(figures().busy, 2U);
  EXPECT_EQ(figures().waiting, 1U);
  stop("a", StopReason::hand_back);
  EXPECT_EQ(result().id.str(), "a");
  const std::string third = progress();
  EXPECT_TRUE(third == one || third == other);
  stop("b", StopReason::hand_back);
  EXPECT_EQ(result().id.str(), "b");
  stop("c", StopReason::hand_back);
  EXPECT_EQ(result().id.str(), "c");
}

TEST_F(IsolateTest, one_that_waits_for_an_isolate_can_be_stopped) {
  use(wait_for_stop, {{"isolates_max", std::int64_t{1}}});
  start("a");
  (void)progress();
  start("b");
  stop("b", StopReason::cancel);
  const AttemptResult got = result();
  EXPECT_EQ(got.id.str(), "b");
  EXPECT_EQ(got.outcome, Outcome::cancelled);
  EXPECT_EQ(figures().waiting, 0U);
}

TEST_F(IsolateTest, the_pool_goes_back_to_its_minimum_when_idle) {
  use(wait_for_stop, {{"idle", std::int64_t{1}}});
  for (const char* id : {"a", "b", "c"})
    start(id);
  for (int i = 0; i < 3; ++i)
    (void)progress();
  EXPECT_EQ(figures().total, 3U);
  for (const char* id : {"a", "b", "c"})
    stop(id, StopReason::hand_back);
  for (int i = 0; i < 3; ++i)
    (void)result();
  while (figures().total > 1)
    turn();
  EXPECT_EQ(figures().crashes, 0U);
  EXPECT_NE(run("now").result, "");
}

TEST_F(IsolateTest, when_the_spawner_dies_the_jobs_are_handed_back_and_it_is_said) {
  use(wait_for_stop, {{"isolates_max", std::int64_t{1}}});
  start("a");
  const std::string pid = progress();
  start("b");
  ::kill(spawner_.pid(), SIGKILL);
  std::set<std::string> handed_back;
  for (int i = 0; i < 2; ++i) {
    const AttemptResult got = result();
    if (got.outcome == Outcome::handed_back) handed_back.insert(got.id.str());
  }
  EXPECT_EQ(handed_back, (std::set<std::string>{"a", "b"}));
  RuntimeEvent last = next();
  EXPECT_EQ(std::get<RuntimeFailed>(last).detail, "the spawner died");
  start("c");
  EXPECT_EQ(result().error_code, "task_not_offered");
}

TEST_F(IsolateTest, a_handler_that_forks_may_come_back_twice_and_is_heard_once) {
  use([](Task& task) {
    const pid_t child = ::fork();
    task.progress(1, child == 0 ? "child" : "parent");
    if (child == 0) return std::string("child");
    int status = 0;
    (void)::waitpid(child, &status, 0);
    return WIFEXITED(status) ? own_pid(task) : std::string("the child was killed");
  });
  const std::string first = run().result;
  EXPECT_EQ(run().result, first) << "the next job is not to pay for it";
  EXPECT_EQ(figures().crashes, 0U);
}

TEST_F(IsolateTest, those_that_die_before_their_first_job_are_replaced_up_to_the_minimum) {
  use(own_pid, {{"isolates_min", std::int64_t{2}}, {"isolates_max", std::int64_t{2}}});
  while (children_of(spawner_.pid()).size() < 2)
    ::usleep(1000);
  for (const pid_t isolate : children_of(spawner_.pid()))
    ASSERT_EQ(::kill(isolate, SIGKILL), 0);
  while (figures().crashes < 2 || figures().total < 2)
    turn();
  EXPECT_NE(run().result, "");
}

// Its mark is not in its environment as the kernel shows it: it executes nothing.
TEST_F(IsolateTest, when_the_spawner_dies_what_a_handler_forked_without_exec_is_swept) {
  use([](Task& task) {
    task.progress(1, std::to_string(leave_behind()));
    return wait_for_stop(task);
  });
  start("a");
  const std::string left = progress();
  ::kill(spawner_.pid(), SIGKILL);
  EXPECT_EQ(result().outcome, Outcome::handed_back);
  EXPECT_FALSE(is_alive(std::stoi(left)));
}

// Until it has used so many seconds of CPU time, or is killed.
std::string burn(Task& task) {
  const std::clock_t end = std::clock() + std::stol(task.payload()) * CLOCKS_PER_SEC / 10;
  while (std::clock() < end) {
  }
  return own_pid(task);
}

TEST_F(IsolateTest, each_job_has_the_cpu_time_of_its_limit_for_itself) {
  use(burn, {{"limits.cpu", std::string("1s")}, {"isolates_max", std::int64_t{1}}});
  const AttemptResult first = run("8");
  EXPECT_EQ(first.outcome, Outcome::completed) << first.error;
  for (int more = 0; more < 2; ++more)
    EXPECT_EQ(run("8").result, first.result) << "2.4 s together";
  const AttemptResult endless = run("600");
  EXPECT_EQ(endless.error_code, "cpu_limit");
  EXPECT_EQ(endless.error, "isolate killed: its job used all its 1 s of CPU time");
  EXPECT_EQ(run("0").outcome, Outcome::completed);
}

TEST_F(IsolateTest, a_file_beyond_its_limit_ends_the_isolate) {
  use(
      [](Task&) {
        const UniqueFd file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
        const std::string much(1 << 20, 'x');
        for (int i = 0; i < 8; ++i)
          (void)!::write(file.get(), much.data(), much.size());
      },
      {{"limits.file_size", std::string("2MiB")}});
  const AttemptResult got = run();
  EXPECT_EQ(got.error_code, "isolate_crashed");
  EXPECT_THAT(got.error, HasSubstr("SIGXFSZ"));
}

#ifndef __SANITIZE_ADDRESS__  // which needs all of the address space
TEST_F(IsolateTest, memory_beyond_its_limit_is_not_to_be_had) {
  use([](Task&) { return std::to_string(std::string(512 << 20, 'x').size()); },
      {{"limits.memory", std::string("256MiB")}});
  const AttemptResult got = run();
  EXPECT_EQ(got.error_code, "exception");
  EXPECT_THAT(got.error, HasSubstr("bad_alloc"));
}
#endif

TEST_F(IsolateTest, settings_that_are_wrong_are_refused_by_name) {
  handlers_["t"] = make_handler(own_pid);
  for (const auto& [values, where] :
       {std::pair<Values, std::string>{{{"handler", std::string("u")}}, "task.t.handler"},
        {{{"isolates_min", std::int64_t{-1}}}, "task.t.isolates_min"},
        {{{"isolates_min", std::int64_t{3}}, {"isolates_max", std::int64_t{2}}},
         "task.t.isolates_min"},
        {{{"reuse", false}, {"recycle_after", std::int64_t{2}}}, "task.t.recycle_after"},
        {{{"recycle_memory", std::string("much")}}, "task.t.recycle_memory"},
        {{{"idle", std::string("soon")}}, "task.t.idle"},
        {{{"limits.memory", std::int64_t{5}}}, "task.t.limits.memory"},
        {{{"limits.cpu", std::string("1500ms")}}, "task.t.limits.cpu"},
        {{{"timeout", std::string("soon")}}, "task.t.timeout"}}) {
    TaskSettings settings("t", values);
    const auto added = builder_.add(settings);
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().where, where);
  }
}

}  // namespace
}  // namespace sluice::worker_isolate_runtime_test
