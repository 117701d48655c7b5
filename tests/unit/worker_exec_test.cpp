// Real programs under a real spawner. Waiting is always for an event, never for a time.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/clock.h"
#include "common/limits.h"
#include "tests/support/runtime_fixture.h"
#include "worker/runtime/exec.h"
#include "worker/runtime/process_meter.h"

namespace sluice::worker_exec_test {
namespace {

using namespace sluice;
using testing::HasSubstr;

class ExecTest : public RuntimeFixture {
 protected:
  void use(TaskSettings::Texts program, Values more = {}) {
    more["program"] = std::move(program);
    build(builder_, std::move(more));
  }

  void shell(const std::string& script, Values more = {}) {
    use({"/bin/sh", "-c", script}, std::move(more));
  }

  // A path in a directory of this test's own.
  std::string file(const std::string& name) const { return (directory_ / name).string(); }

  void SetUp() override {
    RuntimeFixture::SetUp();
    std::string name = (std::filesystem::temp_directory_path() / "sluice-exec-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }

  void TearDown() override {
    RuntimeFixture::TearDown();
    std::filesystem::remove_all(directory_);
  }

  // Blocks until somebody writes a number into the named pipe.
  static pid_t read_pid(const std::string& path) {
    std::ifstream pipe(path);
    pid_t pid = 0;
    pipe >> pid;
    return pid;
  }

  std::filesystem::path directory_;
  ExecRuntimeBuilder builder_;
};

TEST_F(ExecTest, the_payload_is_stdin_and_stdout_is_the_result) {
  use({"cat"});
  const std::string payload = std::string("a\0b", 3) + std::string(200'000, 'x');
  const AttemptResult got = run(payload);
  EXPECT_EQ(got.outcome, Outcome::completed);
  EXPECT_EQ(got.result, payload);
  EXPECT_EQ(got.fence, (Fence{7, 3}));
}

TEST_F(ExecTest, a_real_checksum) {
  use({"sha256sum"});
  EXPECT_EQ(run("abc").result,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n");
}

TEST_F(ExecTest, exit_code_75_is_tried_again_and_65_never) {
  shell("cat >/dev/null; echo sorry >&2; exit $(cat " + file("code") + ")");
  for (const auto& [code, can_retry] : {std::pair{75, true}, {65, false}, {3, true}}) {
    std::ofstream(file("code")) << code;
    const AttemptResult got = run();
    EXPECT_EQ(got.outcome, Outcome::failed);
    EXPECT_EQ(got.error_code, "exit_" + std::to_string(code));
    EXPECT_EQ(got.retryable, can_retry);
    EXPECT_THAT(got.error, HasSubstr("sorry"));
  }
}

TEST_F(ExecTest, a_missing_program_fails_for_good_and_says_so) {
  use({"no-such-program-anywhere"});
  const AttemptResult got = run();
  EXPECT_EQ(got.error_code, "program_not_found");
  EXPECT_FALSE(got.retryable);
}

TEST_F(ExecTest, a_directory_that_is_not_there_is_told_from_a_program_that_is_not) {
  use({"/bin/true"}, {{"cwd", std::string("/no/such/place")}});
  const AttemptResult got = run();
  EXPECT_EQ(got.error_code, "cwd_not_found");
  EXPECT_THAT(got.error, HasSubstr("/no/such/place"));
}

TEST_F(ExecTest, death_by_signal_is_named) {
  shell("kill -SEGV $$");
  const AttemptResult got = run();
  EXPECT_EQ(got.error_code, "killed_by_SIGSEGV");
  EXPECT_THAT(got.error, HasSubstr("killed by SIGSEGV"));
  EXPECT_TRUE(got.retryable);
}

// It would write for ever, and ignores SIGTERM: only a kill at the bound ends it.
TEST_F(ExecTest, a_flood_on_stdout_is_killed_at_the_bound_and_refused) {
  shell("trap '' TERM; yes & wait; yes");
  const AttemptResult got = run();
  EXPECT_EQ(got.outcome, Outcome::failed);
  EXPECT_EQ(got.error_code, "result_too_large");
  EXPECT_THAT(got.error, HasSubstr("1048576 bytes"));
  EXPECT_FALSE(got.retryable);
}

TEST_F(ExecTest, one_byte_over_the_bound_is_refused_whatever_the_exit_code) {
  shell("head -c 1048577 /dev/zero; exit 75");
  EXPECT_EQ(run().error_code, "result_too_large");
}

TEST_F(ExecTest, a_result_of_just_the_bound_is_taken) {
  shell("head -c 1048576 /dev/zero");
  EXPECT_EQ(run().result.size(), kResultBytesMax);
}

TEST_F(ExecTest, fields_of_the_payload_become_arguments) {
  use({"echo", "-n", "{ticker}/{n}", "{id}", "${ticker}", "{no field}"});
  start("a", R"({"ticker":"AAPL; rm -rf /","n":5})", kNever, "application/json");
  EXPECT_EQ(result().result, "AAPL; rm -rf //5 a ${ticker} {no field}");
}

TEST_F(ExecTest, fields_of_a_msgpack_map_become_arguments) {
  use({"echo", "-n", "{ticker}"});
  start("a",
        "\x81\xa6ticker\xa4"
        "AAPL",
        kNever,
        "application/msgpack");
  EXPECT_EQ(result().result, "AAPL");
}

TEST_F(ExecTest, a_field_that_is_not_there_fails_for_good_and_is_named) {
  use({"echo", "{ticker}"});
  start("a", "{}", kNever, "application/json");
  const AttemptResult got = result();
  EXPECT_EQ(got.error_code, "bad_payload");
  EXPECT_THAT(got.error, HasSubstr("ticker"));
  EXPECT_FALSE(got.retryable);
}

TEST_F(ExecTest, the_environment_is_what_is_listed_and_nothing_else) {
  use({"/usr/bin/env"},
      {{"env", TaskSettings::TextMap{{"COLOUR", "red"}}}, {"pass_env", TaskSettings::Texts{}}});
  EXPECT_EQ(run().result,
            "COLOUR=red\nSLUICE_NODE=" + node_ +
                "\nSLUICE_TASK=t\nSLUICE_JOB_ID=a\nSLUICE_ATTEMPT=3\n"
                "SLUICE_FENCE=7.3\nSLUICE_QUEUE=q\nSLUICE_RETRY_COUNT=2\n");
}

TEST_F(ExecTest, descriptor_3_is_for_progress_and_a_checkpoint_comes_with_the_next_attempt) {
  shell("echo 50 half way >&3; echo '{\"progress\":60,\"checkpoint\":\"p3\"}' >&3; echo done");
  start("a");
  // They may come together.
  AttemptProgress said = progressed();
  if (!said.checkpoint) {
    EXPECT_EQ(said.message, "half way");
    said = progressed();
  }
  EXPECT_EQ(said.percent, 60u);
  EXPECT_EQ(said.checkpoint, "p3");
  EXPECT_EQ(result().result, "done\n");
}

TEST_F(ExecTest, the_checkpoint_of_an_earlier_attempt_is_in_the_environment) {
  shell("printf %s \"${SLUICE_CHECKPOINT-none}\"");
  EXPECT_EQ(run().result, "none");
  RunJob job = job_of("b");
  job.checkpoint = "p3";
  start(std::move(job));
  EXPECT_EQ(result().result, "p3");
}

TEST_F(ExecTest, what_it_writes_to_its_standard_error_is_the_jobs_log) {
  shell("echo one >&2; echo result; printf 'two\\377' >&2");
  EXPECT_EQ(run().result, "result\n");
  EXPECT_EQ(log_["a"], "one\ntwo\xff");
  start("b");
  start("c");
  (void)result();
  (void)result();
  EXPECT_EQ(log_["b"], log_["a"]);
  EXPECT_EQ(log_["c"], log_["a"]);
}

TEST_F(ExecTest, what_is_no_progress_is_in_the_error_of_one_that_fails) {
  shell("echo half way >&3; echo sorry >&2; exit 1");
  EXPECT_EQ(run().error,
            "exited with code 1\nsorry\n\n"
            "sluice: a line of descriptor 3 is neither PERCENT TEXT nor a JSON map: half way");
}

TEST_F(ExecTest, a_flood_of_progress_is_bounded_and_harms_nothing) {
  shell("head -c 20000000 /dev/zero >&3; yes 7 busy | head -n 200000 >&3; echo done");
  start("a");
  EXPECT_EQ(result().result, "done\n");
}

TEST_F(ExecTest, its_end_does_not_wait_for_somebody_outside_who_holds_its_stdout) {
  ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
  // Its stdout as 5, too: while echo writes to the pipe that is the shell's 1.
  shell("exec 5>&1; echo $$ > " + file("pipe") + "; exec sleep 1000");
  start("a");
  const std::string pid = std::to_string(read_pid(file("pipe")));
  const int held = ::open(("/proc/" + pid + "/fd/5").c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(held, 0);
  stop("a", StopReason::cancel);
  EXPECT_EQ(result().outcome, Outcome::cancelled);
  ::close(held);
}

TEST_F(ExecTest, a_program_has_four_descriptors_and_no_more) {
  shell(
      "for fd in 0 1 2 3 4 5 6 7 8 9 10 11 12; do [ -e /proc/$$/fd/$fd ] && printf %s, $fd; done; "
      ":");
  EXPECT_EQ(run().result, "0,1,2,3,");
}

TEST_F(ExecTest, a_program_that_ignores_sigterm_is_killed_after_the_grace) {
  ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
  shell("trap '' TERM; echo $$ > " + file("pipe") + "; while :; do sleep 1000; done",
        {{"grace", std::string("20ms")}});
  start("a");
  const pid_t pid = read_pid(file("pipe"));
  stop("a", StopReason::timed_out);
  const AttemptResult got = result();
  EXPECT_EQ(got.error_code, "timeout");
  EXPECT_FALSE(is_alive(pid));
}

TEST_F(ExecTest, its_own_time_out_ends_a_program_that_hangs) {
  shell("sleep 1000", {{"timeout", std::string("20ms")}, {"grace", std::string("20ms")}});
  EXPECT_EQ(run().error_code, "timeout");
}

TEST_F(ExecTest, a_program_that_stops_its_keeper_is_ended_all_the_same) {
  shell("kill -STOP $PPID; exec sleep 1000",
        {{"timeout", std::int64_t{50}}, {"grace", std::int64_t{0}}});
  EXPECT_EQ(run().error_code, "timeout");
}

TEST_F(ExecTest, a_program_that_stops_its_keeper_over_and_over_is_ended_all_the_same) {
  shell("trap '' TERM; while :; do kill -STOP $PPID; done",
        {{"timeout", std::int64_t{50}}, {"grace", std::int64_t{0}}});
  EXPECT_EQ(run().error_code, "timeout");
}

TEST_F(ExecTest, a_cancelled_one_and_one_handed_back_say_so) {
  shell("sleep 1000", {{"grace", std::string("20ms")}});
  start("a");
  stop("a", StopReason::cancel);
  EXPECT_EQ(result().outcome, Outcome::cancelled);
  start("a");
  stop("a", StopReason::hand_back);
  EXPECT_EQ(result().outcome, Outcome::handed_back);
}

TEST_F(ExecTest, nothing_is_left_of_a_program_that_escaped_its_session) {
  ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
  // A session of its own, an orphan, with a wiped environment and closed output.
  shell("(setsid env -i /bin/sh -c 'echo $$ > " + file("pipe") +
        "; exec sleep 1000' </dev/null >/dev/null 2>&1 &) ; cat " + file("pipe"));
  const AttemptResult got = run();
  ASSERT_EQ(got.outcome, Outcome::completed) << got.error;
  const pid_t escaped = std::stoi(got.result);
  EXPECT_GT(escaped, 1);
  EXPECT_FALSE(is_alive(escaped));
}

TEST_F(ExecTest, a_dead_spawner_hands_everything_back_and_breaks_the_runtime) {
  ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
  // The program's parent is its keeper, and that one's parent is the spawner.
  shell("read -r _ _ _ spawner _ < /proc/$PPID/stat; echo $spawner > " + file("pipe") +
        "; sleep 1000");
  start("a");
  const pid_t spawner = read_pid(file("pipe"));
  ASSERT_EQ(::kill(spawner, SIGKILL), 0);
  std::vector<RuntimeEvent> events;
  bool is_broken = false;
  bool is_handed_back = false;
  while (!is_broken) {
    pollfd item{runtime_->fd(), POLLIN, 0};
    ASSERT_GT(::poll(&item, 1, 20'000), 0);
    runtime_->poll(clock_now(), events);
    for (const RuntimeEvent& event : std::exchange(events, {})) {
      is_broken |= std::holds_alternative<RuntimeFailed>(event);
      if (const auto* done = std::get_if<AttemptDone>(&event))
        is_handed_back = done->result.outcome == Outcome::handed_back;
    }
  }
  EXPECT_TRUE(is_handed_back);
}

// Lets `process` have no descriptor from `limit` on, while it lives.
class DescriptorLimit {
 public:
  DescriptorLimit(pid_t process, rlim_t limit) : process_(process) {
    EXPECT_EQ(::prlimit(process_, RLIMIT_NOFILE, nullptr, &usual_), 0);
    const rlimit few{limit, usual_.rlim_max};
    EXPECT_EQ(::prlimit(process_, RLIMIT_NOFILE, &few, nullptr), 0);
  }

  ~DescriptorLimit() { (void)::prlimit(process_, RLIMIT_NOFILE, &usual_, nullptr); }

  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  pid_t process_;
  rlimit usual_{};
};

void expect_handed_back_for_want_of_descriptors(const AttemptResult& got) {
  EXPECT_EQ(got.outcome, Outcome::handed_back) << got.error_code << ": " << got.error;
  EXPECT_EQ(got.error_code, "cannot_start");
  EXPECT_THAT(got.error, HasSubstr("Too many open files"));
}

TEST_F(ExecTest, without_descriptors_in_the_node_a_job_is_handed_back_and_none_hangs) {
  use({"cat"});
  ASSERT_EQ(run("before").result, "before");
  const int first_free = ::dup(0);
  ::close(first_free);
  bool has_run = false;
  // Seven are needed: three pipes and the payload; some above may be taken.
  for (int room = 0; !has_run && room < 100; ++room) {
    const DescriptorLimit limit(::getpid(), static_cast<rlim_t>(first_free + room));
    const AttemptResult got = run("payload");
    has_run = got.outcome == Outcome::completed;
    if (!has_run) expect_handed_back_for_want_of_descriptors(got);
  }
  EXPECT_TRUE(has_run);
  EXPECT_EQ(::dup(0), first_free) << "descriptors leak";
  ::close(first_free);
}

TEST_F(ExecTest, without_descriptors_in_a_keeper_a_job_is_handed_back_and_none_hangs) {
  shell("echo $PPID");
  const pid_t keeper = std::stoi(run().result);
  bool has_run = false;
  for (rlim_t limit = 3; !has_run && limit < 20; ++limit) {  // a program brings four
    const DescriptorLimit few(keeper, limit);
    const AttemptResult got = run();
    has_run = got.outcome == Outcome::completed;
    if (!has_run) expect_handed_back_for_want_of_descriptors(got);
    EXPECT_FALSE(has_run && limit < 7);
  }
  EXPECT_EQ(run().result, std::to_string(keeper) + "\n") << "none was lost on the way";
}

TEST_F(ExecTest, without_descriptors_in_the_spawner_a_job_is_handed_back_and_none_hangs) {
  shell("echo $PPID");
  {
    const DescriptorLimit few(spawner_.pid(), 3);  // a new keeper brings its line
    expect_handed_back_for_want_of_descriptors(run());
  }
  EXPECT_EQ(run().outcome, Outcome::completed);
}

TEST_F(ExecTest, a_keeper_is_used_again_and_one_that_was_killed_is_replaced) {
  shell("echo $PPID");
  const std::string first = run().result;
  EXPECT_EQ(run().result, first);
  ASSERT_EQ(::kill(std::stoi(first), SIGKILL), 0);
  turn();  // the spawner says so
  const AttemptResult after = run();
  EXPECT_EQ(after.outcome, Outcome::completed);
  EXPECT_NE(after.result, first);
}

TEST_F(ExecTest, of_many_keepers_some_are_let_go_when_they_have_nothing_to_do) {
  shell("cat");
  constexpr std::size_t kAtOnce = SpawnerChannel::kIdleKeepersMax + 6;
  for (std::size_t i = 0; i < kAtOnce; ++i)
    start("job-" + std::to_string(i), "x");
  for (std::size_t i = 0; i < kAtOnce; ++i)
    EXPECT_EQ(result().outcome, Outcome::completed);
  const auto keeper_count = [this] {
    return children_of(spawner_.pid()).size();
  };
  while (keeper_count() > SpawnerChannel::kIdleKeepersMax)
    ::usleep(1000);
  EXPECT_EQ(keeper_count(), SpawnerChannel::kIdleKeepersMax);
}

// Python that uses so much CPU time.
constexpr const char* kBurn = "import time\nwhile time.process_time() < 0.2: pass\n";

TEST_F(ExecTest, an_attempt_has_the_cpu_time_and_the_peak_memory_of_its_program) {
  rusage own{};
  ::getrusage(RUSAGE_SELF, &own);
  const std::int64_t much = spent_of(own).rss_bytes_max + (64 << 20);  // more than a copy of us
  use({"/usr/bin/python3", "-c", kBurn + ("x = bytearray(" + std::to_string(much) + ")")});
  const Usage usage = run().usage;
  EXPECT_GE(usage.cpu_ms, 200);
  EXPECT_GE(usage.rss_bytes_max, much);
}

TEST_F(ExecTest, what_escaped_from_a_program_counts_with_it) {
  use({"/bin/sh",
       "-c",
       R"sh((setsid /usr/bin/python3 -c "$0" >"$1" & ) ; read -r line <"$1")sh",
       std::string(kBurn) + "print('burnt', flush=True)\ntime.sleep(600)",
       file("pipe")});
  ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
  EXPECT_GE(run().usage.cpu_ms, 200);
}

// Which it does not have by itself: the kernel says of each program what its keeper had,
// whose memory it shared at first.
TEST_F(ExecTest, the_peak_of_a_small_program_is_not_that_of_the_node) {
  const std::string much(64 << 20, 'x');  // and so has the spawner
  use({"/bin/true"});
  const AttemptResult got = run();
  EXPECT_EQ(got.outcome, Outcome::completed);
  EXPECT_EQ(got.usage.rss_bytes_max, 0) << much.size();
}

TEST_F(ExecTest, a_job_whose_program_is_being_written_is_handed_back) {
  std::ofstream program(file("program"));
  std::filesystem::permissions(file("program"), std::filesystem::perms::owner_all);
  use({file("program")});
  const AttemptResult got = run();
  EXPECT_EQ(got.outcome, Outcome::handed_back) << got.error_code << ": " << got.error;
  EXPECT_EQ(got.error, "cannot start: Text file busy");
}

TEST_F(ExecTest, settings_that_are_wrong_are_refused_by_name) {
  for (const auto& [values, where] :
       {std::pair<Values, std::string>{{}, "task.t.program"},
        {{{"program", std::string("cat")}, {"stdin", std::string("file")}}, "task.t.stdin"},
        {{{"program", std::string("cat")}, {"timeout", std::string("soon")}}, "task.t.timeout"},
        {{{"program", std::string("cat")}, {"grace", std::string("4000d")}}, "task.t.grace"}}) {
    TaskSettings settings("t", values);
    const auto added = builder_.add(settings);
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().where, where);
  }
}

TEST(TaskTable, a_key_that_is_no_setting_is_named_with_the_nearest) {
  TaskTable table;
  table.add_kind("exec", std::make_unique<ExecRuntimeBuilder>());
  const auto refusal = [&](std::map<std::string, TaskSettings::Value> values) {
    const auto added = table.add(TaskSettings("t", std::move(values)));
    return added ? "" : added.error().where + ": " + added.error().detail;
  };
  const std::string cat = "cat";
  const std::string value = "3s";
  EXPECT_EQ(refusal({{"program", cat}, {"timout", value}}),
            "task.t.timout: is no setting of this task; did you mean timeout?");
  EXPECT_THAT(refusal({{"program", cat}, {"colour", value}}),
              HasSubstr("task.t.colour: is no setting of this task; there are run, program, cwd"));
  EXPECT_THAT(refusal({{"programm", cat}}), HasSubstr("; programm is no setting"));
}

// The program holds the pipe; a shut-down that waited for its spawner would never return.
TEST_F(ExecTest, a_spawner_that_somebody_stopped_is_killed_at_the_end_and_its_programs_with_it) {
  ASSERT_EQ(::mkfifo(file("pid").c_str(), 0600), 0);
  shell("echo $$ > " + file("pid") + "; exec sleep 1000");
  start("a");
  const pid_t program = read_pid(file("pid"));
  ASSERT_EQ(::kill(spawner_.pid(), SIGSTOP), 0);
  EXPECT_TRUE(runtime_->shut_down());
  EXPECT_FALSE(is_alive(program));
}

}  // namespace
}  // namespace sluice::worker_exec_test
