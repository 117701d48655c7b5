// What the loop relies on; what peers hear is told by the stories of tests/scenarios.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "broker/engine.h"
#include "broker/store/memory_store.h"
#include "common/protocol/codec.h"

namespace sluice::broker_engine_test {
namespace {

class EngineTest : public testing::Test {
 protected:
  explicit EngineTest(EngineConfig config = {}) {
    config.owner = "b1";
    engine_.emplace(config, store_.open("b1", 1, read_on).value(), now_);
    carry();
    facts_.clear();
  }

  // The loop: turns until nothing moves. A store that holds gets its requests and answers none.
  void carry() {
    for (bool is_moving = true; is_moving;) {
      engine_->turn(now_);
      std::vector<StoreRequest> requests;
      std::vector<StoreReply> replies;
      engine_->take_store_requests(requests);
      is_moving = !requests.empty();
      for (StoreRequest& request : requests)
        store_.send(std::move(request));
      store_.receive(replies);
      is_moving = is_moving || !replies.empty();
      for (StoreReply& reply : replies)
        engine_->receive_store(std::move(reply), now_);
      take();
    }
  }

  void take() {
    std::vector<Frame> frames;
    std::vector<EngineFact> facts;
    engine_->take_frames(frames);
    engine_->take_facts(facts);
    frames_.insert(frames_.end(), frames.begin(), frames.end());
    facts_.insert(facts_.end(), facts.begin(), facts.end());
  }

  // The store does what it holds, the first `count` of it.
  void execute(std::size_t count) {
    for (; count > 0; --count)
      store_.execute();
    carry();
  }

  void execute_all() {
    store_.set_held(false);
    while (store_.held_count() > 0)
      store_.execute();
    carry();
  }

  void pass(std::int64_t ms) {
    now_.mono_ms += ms;
    now_.wall_ms += ms;
  }

  void ask(RequestBody body) {
    engine_->receive_producer({"p", false}, encode_request({make_req(1), std::move(body)}), now_);
  }

  void submit(const std::string& id) {
    JobSpec spec;
    spec.id = JobId(id);
    spec.task = "t";
    Submit submit;
    submit.jobs = {std::move(spec)};
    ask(std::move(submit));
  }

  [[nodiscard]] std::size_t frames_to(Channel channel) const {
    return static_cast<std::size_t>(
        std::count_if(frames_.begin(), frames_.end(), [&](const Frame& frame) {
          return frame.channel == channel;
        }));
  }

  [[nodiscard]] std::size_t facts_of(EngineFact::Kind kind) const {
    return static_cast<std::size_t>(
        std::count_if(facts_.begin(), facts_.end(), [&](const EngineFact& fact) {
          return fact.kind == kind;
        }));
  }

  Now now_{1'000'000, 1'700'000'000'000};
  std::shared_ptr<MemoryRedis> redis_ = std::make_shared<MemoryRedis>();
  MemoryStore store_{redis_};
  std::optional<Engine> engine_;
  std::vector<Frame> frames_;
  std::vector<EngineFact> facts_;
};

TEST_F(EngineTest, producers_are_left_unread_while_the_pipeline_is_full) {
  store_.set_held(true);
  for (std::size_t i = 0; i < CommitPipeline::kInFlightMax; ++i) {
    submit("j" + std::to_string(i));
    carry();
    EXPECT_TRUE(engine_->wants_producers(now_)) << "what comes now gathers for the next batch";
  }
  submit("more");
  carry();
  EXPECT_FALSE(engine_->wants_producers(now_));
  EXPECT_EQ(store_.held_count(), CommitPipeline::kInFlightMax);
  execute(1);
  EXPECT_TRUE(engine_->wants_producers(now_));
}

// Whoever asks something behind another's bulk submit is answered while the view is brought up.
TEST_F(EngineTest, while_the_view_lags_producers_are_read_slowly) {
  store_.set_held(true);
  submit("a");
  carry();
  execute(1);  // the commit; the call for the view stays out
  pass(2'000);
  carry();
  ASSERT_TRUE(engine_->wants_producers(now_));
  ask(Ping{});
  EXPECT_FALSE(engine_->wants_producers(now_));
  pass(1);
  EXPECT_TRUE(engine_->wants_producers(now_)) << "a short message costs less than a millisecond";
  JobSpec large;
  large.id = JobId("b");
  large.task = "t";
  large.payload.assign(50'000, 'x');
  Submit one;
  one.jobs = {std::move(large)};
  ask(std::move(one));
  pass(99);
  EXPECT_FALSE(engine_->wants_producers(now_));
  EXPECT_LE(engine_->next_deadline_mono_ms(now_), now_.mono_ms + 2)
      << "the loop wakes for the next";
  pass(2);
  EXPECT_TRUE(engine_->wants_producers(now_));
}

TEST_F(EngineTest, a_loop_that_sleeps_to_its_deadlines_finds_a_silent_store_down_in_time) {
  store_.set_held(true);
  submit("a");
  carry();
  const std::int64_t down_ms = now_.mono_ms + engine_->pipeline().patience_ms();
  pass(1);
  while (!engine_->core().is_store_down() && now_.mono_ms < down_ms) {
    const std::int64_t next = engine_->next_deadline_mono_ms(now_);
    ASSERT_GT(next, now_.mono_ms) << "a loop that does not sleep";
    ASSERT_LE(next, down_ms);
    pass(next - now_.mono_ms);
    carry();
  }
  EXPECT_EQ(now_.mono_ms, down_ms);
  EXPECT_TRUE(engine_->core().is_store_down());
  EXPECT_EQ(facts_of(EngineFact::Kind::store_lost), 1U);
  EXPECT_TRUE(engine_->wants_producers(now_)) << "whoever asks now is told so";
}

TEST_F(EngineTest, a_message_that_is_none_is_answered_at_once_whatever_the_store_does) {
  store_.set_held(true);
  submit("a");
  carry();
  ASSERT_TRUE(frames_.empty()) << "nothing is durable yet";
  engine_->receive_producer({"p", true}, "\xc1", now_);
  engine_->receive_worker({"n", false}, "\xc1", now_);
  take();
  ASSERT_EQ(frames_.size(), 2U);
  EXPECT_EQ(frames_[0].peer, (Peer{"p", true}));
  const auto reply = decode_reply(frames_[0].bytes);
  ASSERT_TRUE(reply);
  EXPECT_EQ(std::get<ErrorReply>(reply->body).error.code, ErrorCode::malformed);
  EXPECT_EQ(frames_[1].channel, Channel::workers);
  const auto refused = decode_broker_message(frames_[1].bytes);
  ASSERT_TRUE(refused);
  EXPECT_EQ(std::get<Refused>(refused->body).error.code, ErrorCode::malformed);
  EXPECT_EQ(engine_->counters().bad_messages, 2U);
  EXPECT_EQ(facts_of(EngineFact::Kind::bad_message), 1U) << "a node's is worth a line";
}

TEST_F(EngineTest, job_events_are_made_only_while_somebody_listens) {
  submit("a");
  carry();
  EXPECT_EQ(frames_to(Channel::producers), 1U);
  EXPECT_EQ(frames_to(Channel::watchers), 0U);
  EXPECT_EQ(facts_of(EngineFact::Kind::job), 0U);
  engine_->want_job_events(true);
  submit("b");
  carry();
  EXPECT_EQ(frames_to(Channel::watchers), 1U);
  ASSERT_EQ(facts_of(EngineFact::Kind::job), 1U);
  EXPECT_EQ(facts_[0].what, "queued");
  EXPECT_EQ(facts_[0].id, "b");
}

TEST_F(EngineTest, an_event_and_the_line_of_a_job_wait_for_its_batch_as_its_answer_does) {
  engine_->want_job_events(true);
  store_.set_held(true);
  submit("a");
  carry();
  submit("b");
  carry();
  EXPECT_TRUE(frames_.empty());
  EXPECT_TRUE(facts_.empty());
  execute(1);
  EXPECT_EQ(frames_.size(), 2U);
  ASSERT_EQ(facts_.size(), 1U);
  EXPECT_EQ(facts_[0].id, "a");
}

// A node that runs job `a`, and what it logs.
class EngineLogs : public EngineTest {
 protected:
  explicit EngineLogs(EngineConfig config = {}) : EngineTest(std::move(config)) {
    Status status;
    status.node = "n@1";
    status.seq = 1;
    status.tasks = {"t"};
    report(status);
    submit("a");
    carry();
    frames_.clear();
  }

  void report(const WorkerMessage& message) {
    engine_->receive_worker({"n", false}, encode_worker_message(message), now_);
  }

  void log(std::string bytes, Fence fence = {1, 1}) {
    report(Log{"n@1", JobId("a"), fence, std::move(bytes)});
  }

  LogPage page(std::uint64_t from = 0) {
    frames_.clear();
    ask(Logs{JobId("a"), from});
    carry();
    for (const Frame& frame : frames_)
      if (const auto reply = decode_reply(frame.bytes);
          reply && frame.channel == Channel::producers)
        if (const auto* page = std::get_if<LogPage>(&reply->body)) return *page;
    ADD_FAILURE() << "no page";
    return {};
  }

  std::uint64_t figure(std::string_view name) {
    frames_.clear();
    ask(Stats{});
    carry();
    const auto reply = decode_reply(frames_.at(0).bytes);
    for (const auto& [key, value] : std::get<StatsInfo>(reply->body).numbers)
      if (key == name) return value;
    ADD_FAILURE() << "no figure " << name;
    return 0;
  }
};

TEST_F(EngineLogs, are_kept_and_told_from_any_place) {
  log("one\n");
  log("two\n");
  log("not ours\n", {1, 2});
  carry();
  const LogPage all = page();
  EXPECT_EQ(all.state, JobState::running);
  EXPECT_EQ(all.size, 8U);
  EXPECT_EQ(all.next, 8U);
  ASSERT_EQ(all.chunks.size(), 2U);
  EXPECT_EQ(all.chunks[0], (LogChunk{0, 1, now_.wall_ms, "one\n"}));
  EXPECT_EQ(page(4).chunks.size(), 1U);
  EXPECT_EQ(page(8).chunks.size(), 0U);
  EXPECT_EQ(page(99).next, 8U) << "Redis lost some: on from what there is";
  EXPECT_EQ(figure("log_chunks"), 2U);
  EXPECT_EQ(figure("log_chunks_dropped"), 0U);
}

TEST_F(EngineLogs, go_to_redis_ahead_of_the_result_behind_them) {
  log("last words\n");
  AttemptResult result;
  result.id = JobId("a");
  result.fence = {1, 1};
  report(Results{"n@1", {result}});
  ask(Logs{JobId("a"), 0});
  carry();
  const LogPage all = page();
  EXPECT_EQ(all.state, JobState::completed);
  EXPECT_EQ(all.size, 11U);
  log("too late\n");
  carry();
  EXPECT_EQ(page().size, 11U);
}

TEST_F(EngineLogs, beyond_a_mebibyte_on_its_way_are_dropped_and_counted) {
  store_.set_held(true);
  for (int i = 0; i < 100; ++i) {
    log(std::string(16'384, 'x'));
    carry();
  }
  execute_all();
  EXPECT_EQ(figure("log_chunks"), 64U);
  EXPECT_EQ(figure("log_chunks_dropped"), 36U);
  log("again\n");
  carry();
  EXPECT_EQ(figure("log_chunks"), 65U);
}

class EngineFewLogs : public EngineLogs {
 protected:
  EngineFewLogs() : EngineLogs(with_logs_of(8)) {}

  static EngineConfig with_logs_of(std::uint64_t bytes) {
    EngineConfig config;
    config.logs_bytes_max = bytes;
    return config;
  }
};

TEST_F(EngineFewLogs, have_together_what_they_may_and_no_more) {
  log("one\n");
  log("two\n");
  log("3\n");
  carry();
  EXPECT_EQ(page().size, 8U);
  EXPECT_EQ(figure("log_chunks_dropped"), 1U);
}

TEST_F(EngineLogs, that_redis_refuses_or_loses_hold_nothing_up) {
  store_.set_held(true);
  log("lost\n");
  carry();
  store_.disconnect("gone");
  carry();
  log("dropped\n");
  carry();
  store_.set_held(false);
  store_.connect();
  carry();
  redis_->is_full = true;
  store_.say_health();
  carry();
  log("no room\n");
  carry();
  redis_->is_full = false;
  store_.say_health();
  carry();
  EXPECT_EQ(figure("log_chunks_dropped"), 3U);
  EXPECT_EQ(page().size, 0U);
  EXPECT_EQ(facts_of(EngineFact::Kind::store_lost), 1U) << "of the connection";
}

TEST_F(EngineLogs, are_published_when_kept_and_only_to_who_asked) {
  log("one\n");
  carry();
  EXPECT_EQ(frames_to(Channel::watchers), 0U);
  engine_->want_log_events(true);
  store_.set_held(true);
  log("two\n");
  carry();
  EXPECT_EQ(frames_to(Channel::watchers), 0U);
  execute_all();
  ASSERT_EQ(frames_to(Channel::watchers), 1U);
  for (const Frame& frame : frames_) {
    if (frame.channel != Channel::watchers) continue;
    EXPECT_EQ(frame.peer.routing_id, "log.a");
    const auto event = decode_event(frame.bytes);
    ASSERT_TRUE(event);
    EXPECT_EQ(std::get<LogEvent>(event->event).chunk, (LogChunk{4, 1, now_.wall_ms, "two\n"}));
  }
}

TEST_F(EngineTest, an_orderly_stop_is_over_when_all_is_said_and_in_the_view) {
  store_.set_held(true);
  submit("a");
  carry();
  engine_->stop(now_);
  carry();
  while (store_.held_count() > 0) {
    EXPECT_FALSE(engine_->is_drained());
    execute(1);
    // The view is brought up some milliseconds later.
    pass(std::clamp<std::int64_t>(engine_->next_deadline_mono_ms(now_) - now_.mono_ms, 0, 1000));
    carry();
  }
  EXPECT_TRUE(engine_->is_drained());
  EXPECT_EQ(frames_to(Channel::producers), 1U);
  EXPECT_EQ(redis_->meta.checkpoint, 1U);
  EXPECT_TRUE(redis_->jobs.contains("a"));
}

TEST_F(EngineTest, a_stop_looks_once_more_whether_the_store_was_emptied) {
  submit("a");
  carry();
  pass(1000);
  carry();
  redis_->flush();
  engine_->stop(now_);
  EXPECT_FALSE(engine_->is_drained()) << "it has nothing to write, and asks";
  for (int i = 0; i < 20 && !engine_->is_drained(); ++i) {
    carry();
    pass(1000);
  }
  EXPECT_TRUE(engine_->is_drained());
  EXPECT_EQ(facts_of(EngineFact::Kind::store_resynced), 1U);
  EXPECT_TRUE(redis_->jobs.contains("a"));
}

TEST_F(EngineTest, whose_state_another_broker_has_says_and_asks_nothing_more) {
  MemoryStore successor(redis_);
  ASSERT_TRUE(successor.open("b2", 1, read_on));
  submit("a");
  carry();
  EXPECT_TRUE(engine_->is_fenced());
  EXPECT_EQ(facts_of(EngineFact::Kind::store_fenced), 1U);
  EXPECT_TRUE(frames_.empty());
  ask(Ping{});
  engine_->receive_store(StoreConnected{redis_->run_id(), redis_->meta}, now_);
  engine_->turn(now_);
  std::vector<StoreRequest> requests;
  engine_->take_store_requests(requests);
  take();
  EXPECT_TRUE(requests.empty());
  EXPECT_TRUE(frames_.empty());
}

}  // namespace
}  // namespace sluice::broker_engine_test
