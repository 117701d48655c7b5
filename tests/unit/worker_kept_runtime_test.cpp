// Real programs under a real spawner.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "tests/support/runtime_fixture.h"
#include "worker/runtime/kept_runtime.h"

namespace sluice::worker_kept_runtime_test {
namespace {

using namespace sluice;
using testing::HasSubstr;
using testing::StartsWith;

class KeptTest : public RuntimeFixture {
 protected:
  void use(TaskSettings::Texts program, Values values = {}) {
    values["program"] = std::move(program);
    build(builder_, std::move(values));
  }

  // A program in shell that does `each` for every line; $line has it, $n is its number.
  void shell(const std::string& each, Values values = {}) {
    use({"/bin/sh", "-c", "n=0; while read -r line; do n=$((n+1)); " + each + "; done"},
        std::move(values));
  }

  void python(const std::string& script, Values values = {}) {
    use({"/usr/bin/python3", "-c", script}, std::move(values));
  }

  KeptRuntimeBuilder builder_;
};

bool is_gone(pid_t pid) {
  return ::kill(pid, 0) != 0 && errno == ESRCH;
}

TEST_F(KeptTest, one_process_runs_job_after_job) {
  shell(R"(echo "{\"result\":\"$$ $n\"}")");
  const std::string first = run().result;
  const std::string pid = first.substr(0, first.find(' '));
  EXPECT_EQ(first, pid + " 1");
  EXPECT_EQ(run().result, pid + " 2");
  EXPECT_EQ(run().result, pid + " 3");
  EXPECT_EQ(figures().total, 1U);
  EXPECT_EQ(figures().jobs, 3U);
}

// Lines that cost a program nothing to write: the loop goes round between a few of them, so that it
// hears of others and of the time, and tells of each turn the newest, with the newest checkpoint.
TEST_F(KeptTest, a_flood_of_progress_is_taken_a_little_at_a_time) {
  constexpr int kLines = 20'000;
  python(R"(
import sys
for line in sys.stdin:
    for i in range(20000 // 100):
        sys.stdout.write('{"progress":5,"checkpoint":"c%d"}\n' % i + '{"progress":6}\n' * 99)
    print('{"result": "done"}', flush=True)
)");
  start("a");
  int turns = 0;
  std::size_t told = 0;
  std::string checkpoint;
  AttemptResult ended;
  while (ended.id != JobId("a")) {
    turn();
    ++turns;
    std::size_t told_now = 0;
    for (const RuntimeEvent& event : std::exchange(events_, {})) {
      if (const auto* done = std::get_if<AttemptDone>(&event)) ended = done->result;
      const auto* progress = std::get_if<AttemptProgress>(&event);
      if (progress == nullptr) continue;
      EXPECT_EQ(ended.id, JobId()) << "progress comes before the result";
      ++told_now;
      checkpoint = progress->checkpoint.value_or(checkpoint);
    }
    EXPECT_LE(told_now, 1U);
    told += told_now;
  }
  EXPECT_EQ(ended.result, "done");
  EXPECT_EQ(checkpoint, "c199");
  EXPECT_GE(turns, kLines / 64);
  EXPECT_LE(told, static_cast<std::size_t>(turns));
}

TEST_F(KeptTest, each_attempt_has_the_cpu_time_and_the_peak_memory_of_its_own) {
  python(R"(
import json, os, sys, time
for line in sys.stdin:
    what = json.loads(line)["payload"]
    if what == "much":
        end = time.process_time() + 0.2
        while time.process_time() < end: pass
        b"x" * (64 << 20)
    if what == "die":
        os.kill(os.getpid(), 9)
    print('{"result": ""}', flush=True)
)");
  const Usage much = run("much").usage;
  EXPECT_GE(much.cpu_ms, 200);
  EXPECT_GE(much.rss_bytes_max, 64 << 20);
  for (const char* what : {"little", "die"}) {
    const Usage usage = run(what).usage;
    EXPECT_LT(usage.cpu_ms, 200) << what;
    EXPECT_LT(usage.rss_bytes_max, 32 << 20) << what;
  }
}

TEST_F(KeptTest, it_is_given_the_job_and_the_environment_of_its_task) {
  ::setenv("KEPT_SECRET", "1", 1);
  python(R"(
import json, os, sys
job = json.loads(sys.stdin.readline())
print(json.dumps({"result": [job["id"], job["fence"], job["payload"], os.environ["SLUICE_TASK"],
      os.environ["SLUICE_NODE"], os.environ["MINE"], "KEPT_SECRET" in os.environ, os.getcwd()]}), flush=True)
)",
         {{"env", TaskSettings::TextMap{{"MINE", "yes"}}}, {"cwd", std::string("/usr")}});
  EXPECT_EQ(run("hello").result,
            R"(["a","7.3","hello","t",")" + node_ + R"(","yes",false,"/usr"])");
}

TEST_F(KeptTest, it_fails_a_job_and_goes_on) {
  shell(
      R"(case $n in 1) echo '{"error":{"code":"bad","message":"no","retry":false}}';; *) echo "{\"result\":$n}";; esac)");
  const AttemptResult failed = run();
  EXPECT_EQ(failed.error_code, "bad");
  EXPECT_EQ(failed.error, "no");
  EXPECT_FALSE(failed.retryable);
  EXPECT_EQ(run().result, "2");
}

TEST_F(KeptTest, progress_and_checkpoints_come_as_they_are_said) {
  shell(
      R"(echo '{"progress":40,"message":"reading","checkpoint":"p2"}'; read -r stop; echo '{"result":1}')");
  start("a");
  const AttemptProgress progress = progressed();
  EXPECT_EQ(progress.percent, 40U);
  EXPECT_EQ(progress.message, "reading");
  EXPECT_EQ(progress.checkpoint, "p2");
}

TEST_F(KeptTest, what_it_writes_to_its_standard_error_during_a_job_is_that_jobs_log) {
  shell(R"(echo "start $n" >&2; echo "{\"result\":$n}")");
  for (const char* id : {"a", "b", "c"}) {
    start(id);
    (void)result();
  }
  EXPECT_EQ(log_["a"], "start 1\n");
  EXPECT_EQ(log_["b"], "start 2\n");
  EXPECT_EQ(log_["c"], "start 3\n");
}

// A child of the program is its own business.
TEST_F(KeptTest, what_a_job_left_behind_is_told_in_its_log_once) {
  shell(R"(case $line in
    *daemon*) pid=$(sleep 1000 >/dev/null 2>&1 & echo $!)
      until grep -q sleep /proc/$pid/comm; do :; done;;
    *) sleep 1000 & ;;
    esac; echo "{\"result\":\"$pid\"}")");
  EXPECT_EQ(run("child").result, "");
  EXPECT_EQ(log_["a"], "");
  const std::string pid = run("daemon").result;
  const std::string told =
      "left behind: sleep (pid " + pid + "), which lives until this program is replaced\n";
  EXPECT_EQ(log_["a"], told);
  EXPECT_TRUE(is_alive(std::stoi(pid)));
  EXPECT_EQ(run("child").result, pid);
  EXPECT_EQ(log_["a"], told);
}

TEST_F(KeptTest, a_crash_costs_that_one_attempt_and_another_takes_the_next) {
  shell(
      R"(case $line in *crash*) echo oops >&2; kill -SEGV $$;; *) echo "{\"result\":$n}";; esac)");
  const AttemptResult crashed = run("crash");
  EXPECT_EQ(crashed.error_code, "killed_by_SIGSEGV");
  EXPECT_EQ(crashed.error, "killed by SIGSEGV before it told the job's end\noops\n");
  EXPECT_EQ(log_["a"], "oops\n");
  EXPECT_TRUE(crashed.retryable);
  EXPECT_EQ(run().result, "1");
  EXPECT_EQ(figures().crashes, 1U);
}

TEST_F(KeptTest, an_exit_in_the_middle_of_a_job_is_a_failure_of_its_code) {
  shell(R"(c=${line##*code }; exit ${c%%\"*})");
  for (const int code : {0, 1, 65, 75, 255}) {
    const AttemptResult result = run("code " + std::to_string(code));
    EXPECT_EQ(result.outcome, Outcome::failed) << code;
    EXPECT_EQ(result.error_code, "exit_" + std::to_string(code));
    EXPECT_THAT(result.error, testing::EndsWith(" before it told the job's end"));
    EXPECT_EQ(result.retryable, code != 65) << code;
  }
}

// Whether the next job is given to it before its end is seen is chance.
TEST_F(KeptTest, one_that_ends_after_its_answer_has_answered) {
  shell(R"(echo '{"result":1}'; exit 3)");
  for (int answers = 0, jobs = 0; answers < 3; ++jobs) {
    start("a" + std::to_string(jobs));
    const AttemptResult got = result();
    if (got.outcome == Outcome::handed_back) continue;
    EXPECT_EQ(got.result, "1");
    ++answers;
  }
}

TEST_F(KeptTest, a_job_that_was_not_read_by_one_that_left_between_two_is_handed_back_once) {
  const std::string pipe = testing::TempDir() + "sluice-kept-" + std::to_string(::getpid());
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  shell("echo '{\"result\":1}'; read -r _ < " + pipe + "; exit 3");
  const auto end_after = [&](const std::string& first, const std::string& second) {
    start(first);
    EXPECT_EQ(result().result, "1");
    start(second);  // it lies in the program's stdin
    ::close(::open(pipe.c_str(), O_WRONLY | O_CLOEXEC));
    return result();
  };
  EXPECT_EQ(end_after("a", "b").outcome, Outcome::handed_back);
  // Then only a fresh one is good enough for it, which reads it.
  start("c");
  EXPECT_EQ(result().result, "1");
  start("b");
  EXPECT_EQ(result().result, "1");
  EXPECT_EQ(figures().total, 1U) << "in the place of the other";
  std::filesystem::remove(pipe);
}

TEST_F(KeptTest, one_that_does_not_speak_its_protocol_is_killed_with_what_it_said) {
  shell(R"(case $n in 1) echo '{"result":1}';; *) echo hello; echo why >&2; sleep 1000;; esac)");
  EXPECT_EQ(run().result, "1");
  const AttemptResult broken = run();
  EXPECT_EQ(broken.error_code, "program_broken");
  EXPECT_THAT(broken.error,
              StartsWith("the program was killed: a line of stdout is no JSON object: hello"));
  EXPECT_EQ(run().result, "1");
}

TEST_F(KeptTest, two_ends_of_one_job_are_one_too_many) {
  shell(R"(echo '{"result":1}'; echo '{"result":2}')");
  EXPECT_EQ(run().result, "1");
  while (figures().crashes == 0)
    turn();
  EXPECT_EQ(run().result, "1");
}

TEST_F(KeptTest, a_flood_without_a_line_end_is_killed_at_the_bound) {
  shell("cat /dev/zero");
  const AttemptResult broken = run();
  EXPECT_EQ(broken.error_code, "program_broken");
  EXPECT_THAT(broken.error, HasSubstr("a line of stdout has more than 8 MiB"));
}

TEST_F(KeptTest, a_flood_on_stderr_hinders_nobody_and_its_end_is_kept) {
  shell(R"(head -c 300000 /dev/zero | tr '\0' e >&2; echo last >&2; exit 1)");
  const AttemptResult result = run();
  EXPECT_EQ(result.error_code, "exit_1");
  EXPECT_THAT(result.error, testing::EndsWith("eelast\n"));
}

TEST_F(KeptTest, one_that_closes_its_stdout_and_lives_on_is_killed) {
  shell("exec >&- <&-; sleep 1000");
  const AttemptResult result = run();
  EXPECT_EQ(result.error_code, "program_broken");
  EXPECT_THAT(result.error, HasSubstr("closed its stream and lived on"));
}

TEST_F(KeptTest, one_that_heeds_a_stop_stays) {
  shell(
      R"(case $n in 1) echo '{"progress":1}'; read -r stop; echo "$stop" >&2; echo '{"error":"stopped"}';; *) echo "{\"result\":$n}";; esac)");
  start("a");
  (void)progressed();
  stop("a", StopReason::cancel);
  EXPECT_EQ(result().outcome, Outcome::cancelled);
  EXPECT_EQ(run().result, "2");
  EXPECT_EQ(figures().crashes, 0U);
}

TEST_F(KeptTest, one_that_does_not_is_killed_after_the_grace_with_everything_it_started) {
  shell(
      R"(trap '' TERM; setsid sleep 1000 & echo "{\"progress\":1,\"message\":\"$!\"}"; while :; do sleep 1000; done)",
      {{"grace", std::int64_t{20}}});
  start("a");
  const auto child = static_cast<pid_t>(std::stol(progress()));
  stop("a", StopReason::timed_out);
  const AttemptResult result = this->result();
  EXPECT_EQ(result.error_code, "timeout");
  EXPECT_TRUE(is_gone(child));
}

TEST_F(KeptTest, its_own_time_out_holds) {
  shell("sleep 1000", {{"timeout", std::int64_t{30}}, {"grace", std::int64_t{10}}});
  EXPECT_EQ(run().error_code, "timeout");
}

TEST_F(KeptTest, jobs_wait_for_a_free_one_and_can_be_stopped_there) {
  shell(R"(echo '{"progress":1}'; read -r stop; echo '{"result":1}')",
        {{"processes_max", std::int64_t{1}}});
  start("a");
  (void)progressed();
  start("b");
  start("c");
  EXPECT_EQ(figures().waiting, 2U);
  stop("b", StopReason::cancel);
  AttemptResult ended = result();
  EXPECT_EQ(ended.id, JobId("b"));
  EXPECT_EQ(ended.outcome, Outcome::cancelled);
  stop("a", StopReason::hand_back);
  ended = result();
  EXPECT_EQ(ended.id, JobId("a"));
  EXPECT_EQ(ended.outcome, Outcome::completed) << "it had finished while the node was leaving";
  EXPECT_EQ(progressed().id, JobId("c"));
}

TEST_F(KeptTest, there_are_as_many_as_jobs_and_they_go_when_idle) {
  shell(R"(echo "{\"progress\":1,\"message\":\"$$\"}"; read -r stop; echo '{"result":1}')",
        {{"idle", std::int64_t{30}}, {"processes_min", std::int64_t{0}}});
  EXPECT_EQ(figures().total, 0U);
  start("a");
  start("b");
  const auto one = static_cast<pid_t>(std::stol(progress()));
  const auto other = static_cast<pid_t>(std::stol(progress()));
  EXPECT_NE(one, other);
  EXPECT_EQ(figures().total, 2U);
  for (const char* id : {"a", "b"})
    stop(id, StopReason::hand_back);
  (void)result();
  (void)result();
  while (figures().total > 0 || !is_gone(one) || !is_gone(other))
    turn();
}

TEST_F(KeptTest, it_is_replaced_after_so_many_jobs) {
  shell(R"(echo "{\"result\":\"$$ $n\"}")", {{"recycle_after", std::int64_t{2}}});
  const std::string first = run().result;
  EXPECT_EQ(run().result, first.substr(0, first.find(' ')) + " 2");
  const std::string third = run().result;
  EXPECT_THAT(third, testing::EndsWith(" 1"));
  EXPECT_NE(third, first);
  EXPECT_EQ(figures().recycles, 1U);
}

TEST_F(KeptTest, a_program_that_is_not_there_is_named_and_taken_when_it_is) {
  const std::filesystem::path path = testing::TempDir() + "/kept_" + std::to_string(::getpid());
  use({path.string()});
  const AttemptResult missing = run();
  EXPECT_EQ(missing.error_code, "program_not_found");
  EXPECT_EQ(missing.error,
            "the program " + path.string() + " cannot be run: No such file or directory");
  EXPECT_FALSE(missing.retryable);
  // The one in its place looks for the program too, and may do so before it is there or after.
  while (figures().total > 0)
    turn();
  std::ofstream(path) << "#!/bin/sh\nread -r line; echo '{\"result\":1}'\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  EXPECT_EQ(run().result, "1");
  std::filesystem::remove(path);
}

TEST_F(KeptTest, a_megabyte_passes_both_ways) {
  python(R"(
import json, sys
for line in sys.stdin:
    print(json.dumps({"result": json.loads(line)["payload"][::-1]}), flush=True)
)");
  const std::string payload = "x" + std::string(kPayloadBytesMax - 2, '\n') + "y";
  const std::string result = run(payload).result;
  EXPECT_TRUE(std::equal(payload.begin(), payload.end(), result.rbegin(), result.rend()));
}

TEST_F(KeptTest, msgpack_frames_carry_bytes) {
  python(R"(
import msgpack, struct, sys
while True:
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        break
    job = msgpack.unpackb(sys.stdin.buffer.read(struct.unpack(">I", head)[0]))
    answer = msgpack.packb({"id": job["id"], "result": job["payload"] * 2})
    sys.stdout.buffer.write(struct.pack(">I", len(answer)) + answer)
    sys.stdout.buffer.flush()
)",
         {{"protocol", std::string("msgpack")}});
  EXPECT_EQ(run("\xff\x01").result, "\xff\x01\xff\x01");
  EXPECT_EQ(run("z").result, "zz");
}

TEST_F(KeptTest, when_the_node_leaves_nothing_is_left) {
  shell(R"(setsid sleep 1000 & echo "{\"progress\":1,\"message\":\"$!\"}"; sleep 1000)");
  start("a");
  const auto child = static_cast<pid_t>(std::stol(progress()));
  EXPECT_TRUE(runtime_->shut_down());
  EXPECT_TRUE(is_gone(child));
}

TEST(KeptSettings, wrong_ones_are_named) {
  const std::vector<std::pair<std::map<std::string, TaskSettings::Value>, std::string>> cases = {
      {{}, "task.t.program"},
      {{{"program", std::string("cat")}, {"protocol", std::string("xml")}}, "task.t.protocol"},
      {{{"program", std::string("cat")}, {"processes_min", std::int64_t{-1}}},
       "task.t.processes_min"},
      {{{"program", std::string("cat")},
        {"processes_min", std::int64_t{3}},
        {"processes_max", std::int64_t{2}}},
       "task.t.processes_min"},
      {{{"program", std::string("cat")}, {"grace", std::string("soon")}}, "task.t.grace"},
  };
  for (const auto& [values, where] : cases) {
    KeptRuntimeBuilder builder;
    TaskSettings settings("t", values);
    const auto added = builder.add(settings);
    ASSERT_FALSE(added) << where;
    EXPECT_EQ(added.error().where, where);
  }
}

}  // namespace
}  // namespace sluice::worker_kept_runtime_test
