#include <gtest/gtest.h>

#include "broker/store/commit_pipeline.h"

namespace sluice::broker_commit_pipeline_test {
namespace {

using Verdict = CommitPipeline::Verdict;

struct Fixture {
  CommitPipeline pipeline{"me", "run1", 7, 5, 10};
  Now now{1000, 1000};

  void append(int count) {
    for (int i = 0; i < count; ++i) {
      const std::uint64_t n = pipeline.next_n();
      pipeline.append(std::make_shared<const LogEntry>(LogEntry{n, "entry " + std::to_string(n)}),
                      now);
    }
  }

  std::vector<std::uint64_t> sent() {
    std::vector<std::uint64_t> numbers;
    while (const auto request = pipeline.next(now))
      numbers.push_back(request->entry->n);
    return numbers;
  }

  Verdict reply(std::uint64_t n, CommitAnswer answer = CommitAnswer::ok, std::uint64_t value = 0) {
    return pipeline.on_reply({n, answer, value}, now);
  }

  StoreMeta meta(std::uint64_t last, std::uint64_t epoch = 7, const char* owner = "me") {
    StoreMeta meta;
    meta.exists = true;
    meta.epoch = epoch;
    meta.owner = owner;
    meta.last = last;
    return meta;
  }
};

using Numbers = std::vector<std::uint64_t>;

TEST(CommitPipeline, four_batches_may_be_on_their_way_and_the_fifth_waits) {
  Fixture f;
  f.append(4);
  EXPECT_FALSE(f.pipeline.has_room());
  EXPECT_EQ(f.sent(), (Numbers{11, 12, 13, 14}));
  EXPECT_EQ(f.reply(11), Verdict::fine);
  EXPECT_EQ(f.pipeline.confirmed(), 11U);
  EXPECT_TRUE(f.pipeline.has_room());
  f.append(1);
  EXPECT_EQ(f.sent(), (Numbers{15}));
}

TEST(CommitPipeline, a_reply_that_never_came_leads_to_the_same_numbers_again) {
  Fixture f;
  f.append(2);
  (void)f.sent();
  f.pipeline.on_disconnected();
  EXPECT_EQ(f.sent(), Numbers{});
  EXPECT_EQ(f.pipeline.on_connected({"run1", f.meta(11)}), Verdict::fine);
  EXPECT_EQ(f.sent(), (Numbers{11, 12}));
  EXPECT_EQ(f.reply(11, CommitAnswer::already), Verdict::fine);
  EXPECT_EQ(f.reply(12), Verdict::fine);
  EXPECT_EQ(f.pipeline.confirmed(), 12U);
}

TEST(CommitPipeline, after_a_refusal_the_batch_and_all_behind_it_go_again_in_order) {
  Fixture f;
  f.append(3);
  (void)f.sent();
  f.pipeline.on_refused(f.now);
  EXPECT_EQ(f.reply(12, CommitAnswer::gap, 10), Verdict::fine);
  EXPECT_EQ(f.sent(), Numbers{}) << "rests, and the answer to 13 is still out";
  EXPECT_EQ(f.reply(13, CommitAnswer::gap, 10), Verdict::fine);
  f.now.mono_ms += CommitPipeline::kRefusedRestMs;
  EXPECT_EQ(f.sent(), (Numbers{11, 12, 13}));
  EXPECT_EQ(f.pipeline.confirmed(), 10U);
}

TEST(CommitPipeline, another_owner_or_a_higher_epoch_fences) {
  Fixture f;
  EXPECT_EQ(f.pipeline.on_connected({"run1", f.meta(10, 8, "other")}), Verdict::fenced);
  EXPECT_EQ(f.pipeline.on_connected({"run1", f.meta(10, 7, "other")}), Verdict::fenced);
  f.append(1);
  (void)f.sent();
  EXPECT_EQ(f.reply(11, CommitAnswer::fenced, 9), Verdict::fenced);
}

TEST(CommitPipeline, who_took_the_state_after_us_fences_even_with_a_clock_behind_ours) {
  Fixture f;
  EXPECT_EQ(f.pipeline.on_connected({"run2", f.meta(10, 6, "other")}), Verdict::fenced);
  EXPECT_EQ(f.pipeline.on_connected({"run2", f.meta(10, 5, "other")}), Verdict::resync)
      << "what our start replaced: Redis is older than that";
}

TEST(CommitPipeline, a_take_over_whose_answer_was_lost_is_made_again) {
  Fixture f;
  f.pipeline.on_disconnected();
  const StoreConnected back{"run1", f.meta(10, 8)};
  ASSERT_EQ(f.pipeline.on_connected(back), Verdict::resync) << "8 is above our 7, and our own";
  const auto plan = f.pipeline.plan_take_over(back.meta, 5);
  EXPECT_EQ(plan.request.epoch, 9U);
  EXPECT_EQ(plan.request.replaced_epoch, 5U);
  TookOver refused{false, f.meta(10, 8, "other")};
  EXPECT_EQ(f.pipeline.on_took_over(refused, plan, f.now), Verdict::fenced)
      << "a successor came between";
}

TEST(CommitPipeline, what_redis_lost_is_put_back_from_the_ring_under_its_old_numbers) {
  Fixture f;
  f.append(3);
  (void)f.sent();
  for (std::uint64_t n = 11; n <= 13; ++n)
    (void)f.reply(n);
  (void)f.pipeline.take_confirmed();
  f.append(1);
  f.pipeline.on_disconnected();
  const StoreConnected back{"run2", f.meta(11)};
  ASSERT_EQ(f.pipeline.on_connected(back), Verdict::resync);
  const auto plan = f.pipeline.plan_take_over(back.meta, 5);
  EXPECT_EQ(plan.missing, 0U);
  EXPECT_EQ(plan.request.base, 0U);
  EXPECT_GT(plan.request.epoch, 7U);
  ASSERT_EQ(f.pipeline.on_took_over({true, f.meta(11, plan.request.epoch)}, plan, f.now),
            Verdict::fine);
  EXPECT_TRUE(f.pipeline.is_replaying());
  EXPECT_EQ(f.pipeline.confirmed(), 13U) << "what was told stays told";
  EXPECT_EQ(f.sent(), (Numbers{12, 13, 14}));
  (void)f.reply(12);
  EXPECT_TRUE(f.pipeline.is_replaying());
  (void)f.reply(13);
  EXPECT_FALSE(f.pipeline.is_replaying());
  EXPECT_EQ(f.pipeline.replayed_missing(), 2U);
  EXPECT_EQ(f.pipeline.epoch(), plan.request.epoch);
}

TEST(CommitPipeline, the_ring_begins_with_the_log_that_the_start_found) {
  std::vector<LogEntryPtr> found;
  for (const std::uint64_t n : {5U, 8U, 9U, 10U})
    found.push_back(std::make_shared<const LogEntry>(LogEntry{n, "x"}));
  CommitPipeline pipeline("me", "run1", 7, 6, 10, found, Now{});
  EXPECT_TRUE(pipeline.take_confirmed().empty()) << "the projector has them from the start";
  EXPECT_FALSE(pipeline.entries_after(6)) << "6 and 7 were never given";
  StoreMeta back;
  back.exists = true;
  back.epoch = 6;
  back.owner = "before";
  back.last = 8;
  ASSERT_EQ(pipeline.on_connected({"run2", back}), Verdict::resync);
  const auto plan = pipeline.plan_take_over(back, 0);
  EXPECT_EQ(plan.missing, 0U);
  back.epoch = plan.request.epoch;
  back.owner = "me";
  ASSERT_EQ(pipeline.on_took_over({true, back}, plan, Now{}), Verdict::fine);
  const auto again = pipeline.next(Now{});
  ASSERT_TRUE(again);
  EXPECT_EQ(again->entry->n, 9U);
}

TEST(CommitPipeline, a_loss_older_than_the_ring_is_told_with_its_size) {
  Fixture f;
  f.append(1);
  (void)f.sent();
  (void)f.reply(11);
  const auto plan = f.pipeline.plan_take_over(StoreMeta{}, 1'700'000'000);
  EXPECT_EQ(plan.missing, 10U)
      << "the ring begins with 11; 1 to 10 were confirmed before this broker";
  EXPECT_EQ(plan.request.base, 10U);
  EXPECT_EQ(plan.request.epoch, 1'700'000'000U);
}

TEST(CommitPipeline, what_redis_lost_between_the_plan_and_the_take_over_is_planned_again) {
  Fixture f;
  f.append(2);
  (void)f.sent();
  (void)f.reply(11);
  (void)f.reply(12);
  const auto plan = f.pipeline.plan_take_over(f.meta(11), 5);
  EXPECT_EQ(plan.missing, 0U);
  const auto emptied = f.meta(0, plan.request.epoch);
  ASSERT_EQ(f.pipeline.on_took_over({true, emptied}, plan, f.now), Verdict::resync);
  const auto again = f.pipeline.plan_take_over(emptied, 5);
  EXPECT_EQ(again.missing, 10U);
  EXPECT_EQ(again.request.base, 10U);
  EXPECT_GT(again.request.epoch, plan.request.epoch);
  ASSERT_EQ(f.pipeline.on_took_over({true, f.meta(10, again.request.epoch)}, again, f.now),
            Verdict::fine);
  EXPECT_EQ(f.sent(), (Numbers{11, 12}));
}

TEST(CommitPipeline, the_ring_forgets_what_is_older_than_ten_seconds_once_the_projector_has_it) {
  Fixture f;
  f.append(1);
  (void)f.sent();
  (void)f.reply(11);
  f.now.mono_ms += CommitPipeline::kRingMs + 1;
  f.append(1);
  (void)f.sent();
  (void)f.reply(12);
  EXPECT_TRUE(f.pipeline.entries_after(10)) << "not given to the projector yet";
  EXPECT_EQ(f.pipeline.take_confirmed().size(), 2U);
  f.now.mono_ms += 1;
  f.append(1);
  (void)f.sent();
  (void)f.reply(13);
  EXPECT_FALSE(f.pipeline.entries_after(10));
  EXPECT_TRUE(f.pipeline.entries_after(11));
}

// The simulator's memory_bounded found it: what had waited for a Redis that was away was forgotten
// with the next batch, though Redis might lose it only now.
TEST(CommitPipeline, a_batch_stays_in_the_ring_for_ten_seconds_from_its_confirmation) {
  Fixture f;
  f.append(1);
  (void)f.sent();
  f.now.mono_ms += 3 * CommitPipeline::kRingMs;
  (void)f.reply(11);
  (void)f.pipeline.take_confirmed();
  f.now.mono_ms += 1;
  f.append(1);
  (void)f.sent();
  (void)f.reply(12);
  EXPECT_TRUE(f.pipeline.entries_after(10));
  EXPECT_EQ(f.pipeline.ring_covers_ms(f.now), 1);
}

TEST(CommitPipeline, the_age_of_the_oldest_unconfirmed_batch_tells_busy_from_down) {
  Fixture f;
  EXPECT_EQ(f.pipeline.oldest_age_ms(f.now), 0);
  f.append(1);
  f.now.mono_ms += 1500;
  f.append(1);
  EXPECT_EQ(f.pipeline.oldest_age_ms(f.now), 1500);
  EXPECT_EQ(f.pipeline.patience_ms(), CommitPipeline::kDownAfterMs);
}

TEST(CommitPipeline, megabytes_on_their_way_leave_no_room_and_are_given_time) {
  Fixture f;
  const std::string half(CommitPipeline::kUnconfirmedBytesMax / 2, 'x');
  for (const std::uint64_t n : {11, 12}) {
    EXPECT_TRUE(f.pipeline.has_room());
    f.pipeline.append(std::make_shared<const LogEntry>(LogEntry{n, half}), f.now);
  }
  EXPECT_FALSE(f.pipeline.has_room());
  const std::int64_t whole_ms =
      CommitPipeline::kUnconfirmedBytesMax / CommitPipeline::kSlowBytesPerMs;
  EXPECT_EQ(f.pipeline.patience_ms(), CommitPipeline::kDownAfterMs + whole_ms);
  (void)f.sent();
  (void)f.reply(11);
  EXPECT_TRUE(f.pipeline.has_room());
  EXPECT_EQ(f.pipeline.patience_ms(), CommitPipeline::kDownAfterMs + whole_ms / 2);
}

}  // namespace
}  // namespace sluice::broker_commit_pipeline_test
