#include "worker/core/worker_core.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/core/text.h"

namespace sluice::worker_core_test {
namespace {

using namespace sluice;
using testing::IsEmpty;
using testing::SizeIs;

class Node {
 public:
  explicit Node(std::uint32_t concurrency = 2)
      : core(WorkerSettings{.node = "n1@aa",
                            .replaces = "n1@old",
                            .concurrency = concurrency,
                            .tasks = {"t"},
                            .queues = {},
                            .labels = {},
                            .version = "x",
                            .drain_grace_ms = 25'000}) {}

  // One turn with one event.
  void tell(WorkerEvent event) {
    out.clear();
    core.handle(std::move(event), {now, 0}, out);
    core.settle({now, 0}, out);
  }

  void advance(std::int64_t ms) {
    now += ms;
    out.clear();
    core.settle({now, 0}, out);
  }

  // The next message of the broker.
  void hear(BrokerBody body) { tell(BrokerMessage{{epoch, ++n}, std::move(body)}); }

  void connect() {
    tell(ConnectionUp{});
    hear(Welcome{});
  }

  void run(const std::vector<std::string>& ids, std::int64_t timeout_ms = 0) {
    Run message;
    for (const std::string& id : ids) {
      RunJob job;
      job.id = JobId(id);
      job.fence = {1, 1};
      job.task = "t";
      job.timeout_ms = timeout_ms;
      message.jobs.push_back(std::move(job));
    }
    hear(std::move(message));
  }

  static AttemptRef ref(const std::string& id) { return {JobId(id), {1, 1}}; }

  void done(const std::string& id, std::string result = "r", Outcome outcome = Outcome::completed) {
    AttemptDone event;
    event.result.id = JobId(id);
    event.result.fence = {1, 1};
    event.result.outcome = outcome;
    event.result.result = std::move(result);
    tell(std::move(event));
  }

  void ack(const std::string& id, std::uint64_t checkpoint_n = 0, bool is_stale = false) {
    hear(Ack{{AckedAttempt{JobId(id), {1, 1}, is_stale, checkpoint_n}}});
  }

  // A checkpoint that its handler waits for; the number under which it was sent.
  std::uint64_t save(const std::string& bytes, std::uint64_t awaited_n) {
    tell(AttemptProgress{JobId("a"), {1, 1}, 1, "", bytes, awaited_n});
    return sent<Progress>().empty() ? 0 : sent<Progress>()[0].checkpoint_n;
  }

  template <typename T>
  std::vector<T> sent() const {
    std::vector<T> all;
    for (const WorkerMessage& message : out.sends)
      if (const auto* found = std::get_if<T>(&message)) all.push_back(*found);
    return all;
  }

  std::vector<AttemptResult> results() const {
    std::vector<AttemptResult> all;
    for (const Results& message : sent<Results>())
      all.insert(all.end(), message.results.begin(), message.results.end());
    return all;
  }

  std::vector<std::string> started() const {
    std::vector<std::string> ids;
    for (const Assignment& assignment : out.starts)
      ids.push_back(assignment.job.id.str());
    return ids;
  }

  WorkerCore core;
  WorkerOutput out;
  std::int64_t now = 1000;
  std::uint64_t epoch = 1;
  std::uint64_t n = 0;
};

TEST(WorkerCore, says_who_it_is_on_connect_and_again_after_the_first_welcome) {
  Node node;
  node.tell(ConnectionUp{});
  ASSERT_THAT(node.sent<Status>(), SizeIs(1));
  EXPECT_EQ(node.sent<Status>()[0].node, "n1@aa");
  EXPECT_EQ(node.sent<Status>()[0].replaces, "n1@old");
  node.hear(Welcome{});
  ASSERT_THAT(node.sent<Status>(), SizeIs(1));
  EXPECT_EQ(node.sent<Status>()[0].seen, (Seen{1, 1}));
  node.hear(Welcome{});
  EXPECT_THAT(node.sent<Status>(), IsEmpty());
}

// A broker that took nothing while its Redis was away asks for all of it when that is back: else
// the slots of those jobs would be taken until the results are repeated by themselves.
TEST(WorkerCore, says_everything_again_at_once_when_a_welcome_asks_for_it) {
  Node node;
  node.connect();
  node.run({"a", "b"});
  node.done("a");
  node.advance(100);
  (void)node.sent<Status>();
  (void)node.sent<Results>();
  node.hear(Welcome{});
  EXPECT_THAT(node.sent<Results>(), IsEmpty());
  node.hear(Welcome{.repeat = true});
  const auto results = node.sent<Results>();
  ASSERT_THAT(results, SizeIs(1));
  ASSERT_THAT(results[0].results, SizeIs(1));
  EXPECT_EQ(results[0].results[0].id, JobId("a"));
  const auto statuses = node.sent<Status>();
  ASSERT_THAT(statuses, SizeIs(1));
  EXPECT_THAT(statuses[0].held, SizeIs(2));
}

TEST(WorkerCore, sends_a_status_every_heartbeat_of_the_welcome) {
  Node node;
  node.tell(ConnectionUp{});
  node.hear(Welcome{.heartbeat_ms = 500});
  node.advance(499);
  EXPECT_THAT(node.sent<Status>(), IsEmpty());
  EXPECT_EQ(node.core.next_deadline_mono_ms(), node.now + 1);
  node.advance(1);
  EXPECT_THAT(node.sent<Status>(), SizeIs(1));
}

TEST(WorkerCore, says_nothing_while_it_is_not_connected) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(ConnectionDown{});
  node.done("a");
  EXPECT_THAT(node.out.sends, IsEmpty());
  node.advance(60'000);
  EXPECT_THAT(node.out.sends, IsEmpty());
}

TEST(WorkerCore, never_starts_more_than_its_limit_whatever_is_sent) {
  Node node(2);
  node.connect();
  node.run({"a", "b", "c", "d"});
  EXPECT_EQ(node.started(), (std::vector<std::string>{"a", "b"}));
  node.done("a");
  EXPECT_EQ(node.started(), (std::vector<std::string>{"c"}));
  EXPECT_EQ(node.core.running_count(), 2U);
}

TEST(WorkerCore, lists_what_waits_runs_and_is_finished) {
  Node node(1);
  node.connect();
  node.run({"a", "b", "c"});
  node.done("a");
  node.advance(3000);
  ASSERT_THAT(node.sent<Status>(), SizeIs(1));
  std::map<std::string, Phase> phases;
  const Status status = node.sent<Status>()[0];
  for (const HeldAttempt& held : status.held)
    phases[held.id.str()] = held.phase;
  EXPECT_EQ(phases,
            (std::map<std::string, Phase>{{"a", Phase::finished},
                                          {"b", Phase::running},
                                          {"c", Phase::waiting}}));
}

TEST(WorkerCore, takes_only_messages_with_a_higher_number) {
  Node node;
  node.connect();
  node.n = 0;
  node.run({"a"});  // number 1 again
  EXPECT_THAT(node.started(), IsEmpty());
  node.n = 9;
  node.run({"a"});
  EXPECT_THAT(node.started(), SizeIs(1));
  node.epoch = 0;
  node.n = 100;
  node.run({"b"});  // a broker of the past
  EXPECT_THAT(node.started(), IsEmpty());
}

TEST(WorkerCore, ignores_a_run_for_what_it_holds) {
  Node node;
  node.connect();
  node.run({"a"});
  node.run({"a"});
  EXPECT_THAT(node.started(), IsEmpty());
  node.done("a");
  node.run({"a"});
  EXPECT_THAT(node.started(), IsEmpty());
}

TEST(WorkerCore, keeps_a_result_until_it_is_acknowledged) {
  Node node;
  node.connect();
  node.run({"a"});
  node.done("a");
  EXPECT_THAT(node.results(), SizeIs(1));
  EXPECT_EQ(node.core.unacknowledged_count(), 1U);
  node.ack("a");
  EXPECT_EQ(node.core.held_count(), 0U);
  node.advance(3'600'000);
  EXPECT_THAT(node.results(), IsEmpty());
}

TEST(WorkerCore, repeats_an_unanswered_result_after_5_s_doubling_to_60_s) {
  Node node;
  node.connect();
  node.run({"a"});
  node.done("a");
  for (const std::int64_t delay : {5'000, 10'000, 20'000, 40'000, 60'000, 60'000}) {
    node.advance(delay - 1);
    EXPECT_THAT(node.results(), IsEmpty()) << delay;
    node.advance(1);
    EXPECT_THAT(node.results(), SizeIs(1)) << delay;
  }
}

TEST(WorkerCore, repeats_results_after_a_reconnect_behind_the_status) {
  Node node;
  node.connect();
  node.run({"a"});
  node.done("a");
  node.tell(ConnectionDown{});
  node.tell(ConnectionUp{});
  ASSERT_THAT(node.out.sends, SizeIs(2));
  EXPECT_TRUE(std::holds_alternative<Status>(node.out.sends[0]));
  EXPECT_THAT(node.results(), SizeIs(1));
}

TEST(WorkerCore, repeats_results_in_a_new_epoch_and_greets_it_twice) {
  Node node;
  node.connect();
  node.run({"a"});
  node.done("a");
  node.epoch = 2;
  node.n = 0;
  node.hear(Welcome{});
  EXPECT_THAT(node.results(), SizeIs(1));
  EXPECT_THAT(node.sent<Status>(), SizeIs(1));
}

TEST(WorkerCore, bounds_the_bytes_of_results_on_their_way) {
  Node node(8);
  node.connect();
  node.run({"a", "b", "c", "d", "e", "f"});
  const std::string big(1 << 20, 'x');
  std::size_t sent = 0;
  for (const char* id : {"a", "b", "c", "d", "e", "f"}) {
    node.done(id, big);
    sent += node.results().size();
  }
  EXPECT_EQ(sent, 3U);
  node.ack("a");
  EXPECT_THAT(node.results(), SizeIs(1));
}

TEST(WorkerCore, cancels_a_waiting_attempt_at_once_and_asks_a_running_one) {
  Node node(1);
  node.connect();
  node.run({"a", "b"});
  node.hear(CancelAttempts{{Node::ref("a"), Node::ref("b")}});
  ASSERT_THAT(node.out.stops, SizeIs(1));
  EXPECT_EQ(node.out.stops[0].key.id.str(), "a");
  EXPECT_EQ(node.out.stops[0].reason, StopReason::cancel);
  ASSERT_THAT(node.results(), SizeIs(1));
  EXPECT_EQ(node.results()[0].id.str(), "b");
  EXPECT_EQ(node.results()[0].outcome, Outcome::cancelled);
}

TEST(WorkerCore, a_dropped_attempt_keeps_its_slot_until_it_is_gone_and_reports_nothing) {
  Node node(1);
  node.connect();
  node.run({"a", "b"});
  node.hear(DropAttempts{{Node::ref("a")}});
  ASSERT_THAT(node.out.stops, SizeIs(1));
  EXPECT_EQ(node.out.stops[0].reason, StopReason::dropped);
  EXPECT_THAT(node.started(), IsEmpty());
  node.done("a");
  EXPECT_THAT(node.results(), IsEmpty());
  EXPECT_EQ(node.started(), (std::vector<std::string>{"b"}));
}

TEST(WorkerCore, a_drop_forgets_what_waits_and_what_is_finished) {
  Node node(1);
  node.connect();
  node.run({"a", "b"});
  node.done("a");
  node.done("b");
  node.hear(DropAttempts{{Node::ref("a"), Node::ref("b")}});
  EXPECT_EQ(node.core.held_count(), 0U);
  node.advance(3'600'000);
  EXPECT_THAT(node.results(), IsEmpty());
}

TEST(WorkerCore, a_time_out_stops_the_attempt_but_frees_no_slot) {
  Node node(1);
  node.connect();
  node.run({"a", "b"}, 1000);
  ASSERT_THAT(node.out.starts, SizeIs(1));
  EXPECT_EQ(node.out.starts[0].deadline_mono_ms, node.now + 1000);
  node.advance(999);
  EXPECT_THAT(node.out.stops, IsEmpty());
  node.advance(1);
  ASSERT_THAT(node.out.stops, SizeIs(1));
  EXPECT_EQ(node.out.stops[0].reason, StopReason::timed_out);
  EXPECT_THAT(node.started(), IsEmpty());
  node.done("a", "", Outcome::failed);
  EXPECT_EQ(node.started(), (std::vector<std::string>{"b"}));
}

TEST(WorkerCore, an_attempt_without_time_out_is_never_stopped) {
  Node node;
  node.connect();
  node.run({"a"}, 0);
  node.advance(kTenYearsMs);
  EXPECT_THAT(node.out.stops, IsEmpty());
}

TEST(WorkerCore, too_large_a_result_is_a_failed_attempt) {
  Node node;
  node.connect();
  node.run({"a"});
  node.done("a", std::string(kResultBytesMax + 1, 'x'));
  ASSERT_THAT(node.results(), SizeIs(1));
  EXPECT_EQ(node.results()[0].outcome, Outcome::failed);
  EXPECT_EQ(node.results()[0].error_code, "result_too_large");
  EXPECT_THAT(node.results()[0].result, IsEmpty());
}

TEST(WorkerCore, progress_is_sent_a_few_times_a_second_and_the_newest_wins) {
  Node node;
  node.connect();
  node.run({"a"});
  const auto progress = [&](std::uint32_t percent) {
    node.tell(AttemptProgress{JobId("a"), {1, 1}, percent, "text", {}});
  };
  progress(10);
  EXPECT_THAT(node.sent<Progress>(), SizeIs(1));
  progress(20);
  progress(30);
  EXPECT_THAT(node.sent<Progress>(), IsEmpty());
  node.advance(250);
  ASSERT_THAT(node.sent<Progress>(), SizeIs(1));
  EXPECT_EQ(node.sent<Progress>()[0].percent, 30U);
}

TEST(WorkerCore, a_checkpoint_is_kept_until_acknowledged) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(AttemptProgress{JobId("a"), {1, 1}, 1, "", "c1"});
  ASSERT_THAT(node.sent<Progress>(), SizeIs(1));
  const std::uint64_t number = node.sent<Progress>()[0].checkpoint_n;
  node.tell(ConnectionDown{});
  node.tell(ConnectionUp{});
  ASSERT_THAT(node.sent<Progress>(), SizeIs(1));
  EXPECT_EQ(node.sent<Progress>()[0].checkpoint, "c1");
  node.advance(5000);
  ASSERT_THAT(node.sent<Progress>(), SizeIs(1));
  node.ack("a", number);
  node.advance(60'000);
  EXPECT_THAT(node.sent<Progress>(), IsEmpty());
  EXPECT_EQ(node.core.held_count(), 1U);
}

TEST(WorkerCore, a_checkpoint_that_is_waited_for_is_sent_at_once_and_answered_when_it_is_recorded) {
  Node node;
  node.connect();
  node.run({"a"});
  const std::uint64_t first = node.save("c1", 1);
  const std::uint64_t second = node.save("c2", 2);
  EXPECT_GT(second, first);
  EXPECT_GT(first, 0U);
  node.ack("a", first);  // a newer one is on its way
  EXPECT_THAT(node.out.answers, IsEmpty());
  node.ack("a", second);
  ASSERT_THAT(node.out.answers, SizeIs(1));
  EXPECT_EQ(node.out.answers[0].awaited_n, 2U);
  EXPECT_TRUE(node.out.answers[0].is_recorded);
  node.ack("a", second);  // a repeat
  EXPECT_THAT(node.out.answers, IsEmpty());
}

TEST(WorkerCore, a_checkpoint_of_an_attempt_that_is_not_current_is_answered_as_not_recorded) {
  Node node;
  node.connect();
  node.run({"a"});
  node.ack("a", node.save("c1", 1), true);
  ASSERT_THAT(node.out.answers, SizeIs(1));
  EXPECT_FALSE(node.out.answers[0].is_recorded);
}

TEST(WorkerCore,
     a_checkpoint_nobody_waits_for_has_no_answer_but_ends_the_wait_for_those_before_it) {
  Node node;
  node.connect();
  node.run({"a"});
  (void)node.save("c1", 1);
  node.tell(AttemptProgress{JobId("a"), {1, 1}, 2, "", "c2"});
  node.advance(250);
  ASSERT_THAT(node.sent<Progress>(), SizeIs(1));
  node.ack("a", node.sent<Progress>()[0].checkpoint_n);
  ASSERT_THAT(node.out.answers, SizeIs(1));
  EXPECT_EQ(node.out.answers[0].awaited_n, 1U);
  node.tell(AttemptProgress{JobId("a"), {1, 1}, 2, "", "c3"});
  node.advance(250);
  node.ack("a", node.sent<Progress>().at(0).checkpoint_n);
  EXPECT_THAT(node.out.answers, IsEmpty());
}

TEST(WorkerCore, a_checkpoint_of_a_time_without_a_broker_is_answered_after_it) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(ConnectionDown{});
  EXPECT_EQ(node.save("c1", 1), 0U);
  node.tell(ConnectionUp{});
  ASSERT_THAT(node.sent<Progress>(), SizeIs(1));
  node.hear(Welcome{});
  node.ack("a", 1);
  ASSERT_THAT(node.out.answers, SizeIs(1));
}

TEST(WorkerCore, the_last_checkpoint_goes_ahead_of_the_result) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(AttemptProgress{JobId("a"), {1, 1}, 1, "", {}});
  node.tell(AttemptProgress{JobId("a"), {1, 1}, 2, "", "c2"});
  node.done("a", "", Outcome::failed);
  ASSERT_THAT(node.out.sends, SizeIs(2));
  EXPECT_EQ(std::get<Progress>(node.out.sends[0]).checkpoint, "c2");
  EXPECT_TRUE(std::holds_alternative<Results>(node.out.sends[1]));
}

TEST(WorkerCore, the_last_checkpoint_goes_ahead_of_what_is_handed_back_at_once) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(AttemptProgress{JobId("a"), {1, 1}, 1, "", {}});
  node.tell(AttemptProgress{JobId("a"), {1, 1}, 2, "", "c2"});
  node.tell(LeaveRequested{});
  ASSERT_THAT(node.out.sends, SizeIs(3));
  EXPECT_EQ(std::get<Progress>(node.out.sends[0]).checkpoint, "c2");
  EXPECT_TRUE(std::holds_alternative<Results>(node.out.sends[1]));
  EXPECT_TRUE(std::holds_alternative<Goodbye>(node.out.sends[2]));
}

TEST(WorkerCore, a_drain_hands_back_what_waits_at_once_and_what_runs_after_the_grace) {
  Node node(1);
  node.connect();
  node.run({"a", "b"});
  node.tell(StopRequested{});
  ASSERT_THAT(node.sent<Status>(), SizeIs(1));
  EXPECT_TRUE(node.sent<Status>()[0].draining);
  ASSERT_THAT(node.results(), SizeIs(1));
  EXPECT_EQ(node.results()[0].outcome, Outcome::handed_back);
  node.ack("b");
  node.advance(24'999);
  EXPECT_THAT(node.out.stops, IsEmpty());
  node.advance(1);
  ASSERT_THAT(node.out.stops, SizeIs(1));
  EXPECT_EQ(node.out.stops[0].reason, StopReason::hand_back);
  node.done("a", "", Outcome::handed_back);
  EXPECT_EQ(node.out.exit, ExitWish::none);
  node.ack("a");
  EXPECT_EQ(node.out.exit, ExitWish::drained);
  EXPECT_THAT(node.sent<Goodbye>(), SizeIs(1));
  EXPECT_EQ(node.out.unacknowledged_count, 0U);
}

TEST(WorkerCore, tasks_that_changed_are_told_and_what_waits_for_one_withdrawn_is_handed_back) {
  Node node(1);
  node.connect();
  node.run({"a", "b"});  // b waits
  node.tell(TasksChanged{{"u"}});
  ASSERT_THAT(node.sent<Status>(), SizeIs(1));
  EXPECT_EQ(node.sent<Status>()[0].tasks, std::vector<std::string>{"u"});
  ASSERT_THAT(node.results(), SizeIs(1));
  EXPECT_EQ(node.results()[0].id, JobId("b"));
  EXPECT_EQ(node.results()[0].outcome, Outcome::handed_back);
  node.run({"c"});  // dealt before the broker knew
  ASSERT_THAT(node.results(), SizeIs(1));
  EXPECT_EQ(node.results()[0].outcome, Outcome::handed_back);
  node.done("a");
  EXPECT_EQ(node.results()[0].outcome, Outcome::completed) << "what runs ends as it began";
  node.tell(TasksChanged{{"t"}});
  node.run({"d"});
  EXPECT_EQ(node.started(), std::vector<std::string>{"d"});
}

TEST(WorkerCore, an_idle_node_leaves_at_once_with_a_goodbye) {
  Node node;
  node.connect();
  node.tell(StopRequested{});
  EXPECT_EQ(node.out.exit, ExitWish::drained);
  EXPECT_THAT(node.sent<Goodbye>(), SizeIs(1));
  EXPECT_EQ(node.core.next_deadline_mono_ms(), kNever);
}

TEST(WorkerCore, a_run_while_draining_is_handed_back) {
  Node node;
  node.connect();
  node.run({"a"});
  node.hear(DrainWish{});
  node.run({"b"});
  EXPECT_THAT(node.started(), IsEmpty());
  ASSERT_THAT(node.results(), SizeIs(1));
  EXPECT_EQ(node.results()[0].outcome, Outcome::handed_back);
}

TEST(WorkerCore, a_drained_node_that_nobody_answers_leaves_and_says_how_much_is_open) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(ConnectionDown{});
  node.done("a");
  node.tell(StopRequested{});
  node.advance(25'000);
  EXPECT_EQ(node.out.exit, ExitWish::none);
  node.advance(WorkerCore::kLastGraceMs);
  EXPECT_NE(node.out.exit, ExitWish::none);
  EXPECT_EQ(node.out.unacknowledged_count, 1U);
}

TEST(WorkerCore, a_second_signal_hands_everything_back_and_says_goodbye) {
  Node node(1);
  node.connect();
  node.run({"a", "b"});
  node.tell(StopRequested{});
  node.tell(LeaveRequested{});
  EXPECT_EQ(node.out.exit, ExitWish::at_once);
  EXPECT_THAT(node.results(), SizeIs(2));
  EXPECT_TRUE(std::holds_alternative<Goodbye>(node.out.sends.back()));
}

TEST(WorkerCore, a_broken_runtime_makes_the_node_hand_back_and_leave) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(RuntimeBroken{"the spawner died"});
  ASSERT_THAT(node.out.stops, SizeIs(1));
  EXPECT_EQ(node.out.stops[0].reason, StopReason::hand_back);
}

TEST(WorkerCore, a_new_limit_is_told_at_once_and_a_lower_one_starts_nothing) {
  Node node(2);
  node.connect();
  node.run({"a", "b", "c"});
  node.hear(ConcurrencyWish{1});
  ASSERT_THAT(node.sent<Status>(), SizeIs(1));
  EXPECT_EQ(node.sent<Status>()[0].concurrency, 1U);
  node.done("a");
  EXPECT_THAT(node.started(), IsEmpty());
  node.done("b");
  EXPECT_EQ(node.started(), (std::vector<std::string>{"c"}));
}

TEST(WorkerCore, a_report_of_what_it_does_not_hold_changes_nothing) {
  Node node;
  node.connect();
  node.done("ghost");
  EXPECT_THAT(node.out.sends, IsEmpty());
  EXPECT_EQ(node.core.held_count(), 0U);
}

TEST(CleanText, is_valid_utf8_within_its_bound) {
  EXPECT_EQ(clean_text("a\xff\xc3-\n", 100),
            "a?"
            "?-\n");
  EXPECT_EQ(clean_text("a\xe2\x82\xac", 3), "a");
  EXPECT_EQ(clean_text(std::string("a\0b", 3), 10), "a?b");
  EXPECT_EQ(clean_code("http 503"), "http_503");
  EXPECT_EQ(clean_code(""), "failed");
}

// ---------------------------------------------------------------- logs

AttemptLog log_of(const std::string& id, std::string bytes) {
  return {JobId(id), {1, 1}, std::move(bytes)};
}

std::string text_of(const std::vector<Log>& logs, const std::string& id = "a") {
  std::string text;
  for (const Log& log : logs)
    if (log.id == JobId(id)) text += log.bytes;
  return text;
}

TEST(WorkerCoreLogs, are_sent_at_once_and_what_follows_is_gathered) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(log_of("a", "one\n"));
  ASSERT_THAT(node.sent<Log>(), SizeIs(1));
  const Log sent = node.sent<Log>()[0];
  EXPECT_EQ(sent.node, "n1@aa");
  EXPECT_EQ(sent.id, JobId("a"));
  EXPECT_EQ(sent.fence, (Fence{1, 1}));
  EXPECT_EQ(sent.bytes, "one\n");
  node.tell(log_of("a", "two\n"));
  node.tell(log_of("a", "three\n"));
  EXPECT_THAT(node.sent<Log>(), IsEmpty());
  EXPECT_EQ(node.core.next_deadline_mono_ms(), node.now + WorkerCore::kLogIntervalMs);
  node.advance(WorkerCore::kLogIntervalMs);
  EXPECT_EQ(text_of(node.sent<Log>()), "two\nthree\n");
  node.advance(WorkerCore::kLogIntervalMs);
  EXPECT_THAT(node.sent<Log>(), IsEmpty());
}

TEST(WorkerCoreLogs, go_ahead_of_the_result_with_all_that_is_left) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(log_of("a", "one\n"));
  node.tell(log_of("a", "two\n"));
  node.done("a");
  ASSERT_THAT(node.out.sends, SizeIs(2));
  EXPECT_EQ(text_of(node.sent<Log>()), "two\n");
  EXPECT_TRUE(std::holds_alternative<Results>(node.out.sends[1]));
  node.tell(log_of("a", "a thread it left behind\n"));
  node.advance(1000);
  EXPECT_THAT(node.sent<Log>(), IsEmpty());
}

TEST(WorkerCoreLogs, wait_for_a_broker_and_are_not_repeated) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(ConnectionDown{});
  node.tell(log_of("a", "one\n"));
  node.done("a");
  EXPECT_THAT(node.out.sends, IsEmpty());
  node.tell(ConnectionUp{});
  ASSERT_THAT(node.out.sends, SizeIs(3));
  EXPECT_TRUE(std::holds_alternative<Status>(node.out.sends[0])) << "first, who speaks";
  EXPECT_EQ(text_of(node.sent<Log>()), "one\n");
  EXPECT_TRUE(std::holds_alternative<Results>(node.out.sends[2]));
  node.tell(ConnectionDown{});
  node.tell(ConnectionUp{});
  EXPECT_THAT(node.sent<Log>(), IsEmpty());
  EXPECT_THAT(node.results(), SizeIs(1));
}

TEST(WorkerCoreLogs, of_a_flood_no_more_is_on_its_way_than_a_status_may_be_behind) {
  Node node;
  node.connect();
  node.run({"a", "b"});
  std::size_t bytes = 0;
  const auto count = [&] {
    for (const Log& log : node.sent<Log>()) {
      EXPECT_LE(log.bytes.size(), kLogChunkBytesMax);
      bytes += log.bytes.size();
    }
  };
  for (int i = 0; i < 100; ++i) {
    node.tell(log_of("a", std::string(100'000, 'x')));
    count();
    node.tell(log_of("b", std::string(100'000, 'x')));
    count();
  }
  EXPECT_GE(bytes, WorkerCore::kLogInFlightBytes);
  EXPECT_LE(bytes, WorkerCore::kLogInFlightBytes + kLogChunkBytesMax);
  // A status asks whether the line takes it; its answer lets the next go.
  node.advance(WorkerCore::kLogStatusMs);
  EXPECT_THAT(node.sent<Status>(), SizeIs(1));
  EXPECT_THAT(node.sent<Log>(), IsEmpty());
  node.advance(WorkerCore::kLogStatusMs);
  count();
  bytes = 0;
  node.hear(Welcome{});
  count();
  EXPECT_GE(bytes, WorkerCore::kLogInFlightBytes);
  EXPECT_LE(bytes, WorkerCore::kLogInFlightBytes + kLogChunkBytesMax);
  EXPECT_FALSE(text_of(node.sent<Log>(), "a").empty());
  EXPECT_FALSE(text_of(node.sent<Log>(), "b").empty()) << "in turn";
  EXPECT_NE(text_of(node.sent<Log>(), "a").find("bytes are missing here]"), std::string::npos);
}

TEST(WorkerCoreLogs, of_many_that_end_at_once_no_more_than_a_mebibyte_goes_ahead) {
  Node node(50);
  node.connect();
  std::vector<std::string> ids;
  for (int i = 0; i < 50; ++i)
    ids.push_back("j" + std::to_string(i));
  node.run(ids);
  node.tell(ConnectionDown{});
  for (const std::string& id : ids) {
    node.tell(log_of(id, std::string(200'000, 'x')));
    node.done(id);
  }
  node.tell(ConnectionUp{});
  std::size_t bytes = 0;
  for (const Log& log : node.sent<Log>())
    bytes += log.bytes.size();
  EXPECT_GE(bytes, WorkerCore::kLogInFlightBytesMax);
  EXPECT_LE(bytes, WorkerCore::kLogInFlightBytesMax + 50 * 100);
  EXPECT_THAT(node.results(), SizeIs(50));
}

TEST(WorkerCoreLogs, of_all_attempts_together_are_bounded) {
  Node node(1000);
  node.connect();
  std::vector<std::string> ids;
  for (int i = 0; i < 1000; ++i)
    ids.push_back("j" + std::to_string(i));
  node.run(ids);
  node.tell(ConnectionDown{});
  for (const std::string& id : ids)
    node.tell(log_of(id, std::string(200'000, 'x')));
  EXPECT_LE(node.core.log_bytes(), WorkerCore::kLogBytesMax + (std::size_t{5} << 20));
  node.tell(ConnectionUp{});
  for (const std::string& id : ids)
    node.done(id);
  for (const std::string& id : ids)
    node.ack(id);
  EXPECT_EQ(node.core.log_bytes(), 0U);
}

TEST(WorkerCoreLogs, of_a_dropped_attempt_are_thrown_away) {
  Node node;
  node.connect();
  node.run({"a"});
  node.tell(log_of("a", "one\n"));
  node.tell(log_of("a", "two\n"));
  node.hear(DropAttempts{{Node::ref("a")}});
  node.tell(log_of("a", "three\n"));
  node.done("a");
  node.advance(1000);
  EXPECT_THAT(node.sent<Log>(), IsEmpty());
  EXPECT_EQ(node.core.log_bytes(), 0U);
}

}  // namespace
}  // namespace sluice::worker_core_test
