#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "broker/store/view_notes.h"

namespace sluice::broker_view_notes_test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

NodeInfo node(std::string id, std::uint32_t running = 0) {
  NodeInfo info;
  info.node = std::move(id);
  info.running = running;
  return info;
}

class ViewNotesTest : public testing::Test {
 protected:
  // What the next round would write, once `confirmed` is durable.
  ProjectRequest round(std::uint64_t confirmed) {
    notes_.release(confirmed, projector_);
    now_.mono_ms += 1000;
    auto call = projector_.next(now_);
    if (!call) return {};
    projector_.done({}, now_);
    return std::move(*call);
  }

  void fail_jobs(std::size_t count, std::uint64_t after_batch = 0) {
    for (std::size_t i = 0; i < count; ++i)
      notes_.note_event({.what = "job_failed", .job = "a", .attempt = 2}, after_batch, now_);
  }

  Now now_{1'000'000, 1'700'000'000'000};
  Projector projector_{{}, 0, 0, 0};
  ViewNotes notes_;
};

TEST_F(ViewNotesTest, nothing_is_told_before_its_batch_is_durable) {
  fail_jobs(1, 7);
  notes_.note_node(node("n@1"), 7, now_);
  const auto before = round(6);
  EXPECT_THAT(before.events, IsEmpty());
  EXPECT_THAT(before.nodes, IsEmpty());
  const auto after = round(7);
  ASSERT_THAT(after.events, SizeIs(1));
  EXPECT_EQ(after.events[0],
            R"({"at_ms":1700000000000,"event":"job_failed","job":"a","attempt":2})");
  ASSERT_THAT(after.nodes, SizeIs(1));
  EXPECT_EQ(after.nodes[0].node, "n@1");
  EXPECT_THAT(after.nodes[0].json, HasSubstr(R"("seen_ms":1700000000000)"));
}

TEST_F(ViewNotesTest, a_hundred_events_of_a_second_are_kept_and_the_next_says_how_many_were_not) {
  fail_jobs(130);
  EXPECT_THAT(round(0).events, SizeIs(100));
  now_.wall_ms += 999;
  fail_jobs(1);
  EXPECT_THAT(round(0).events, IsEmpty()) << "it is the same second still";
  now_.wall_ms += 1;
  fail_jobs(200);
  const auto events = round(0).events;
  ASSERT_THAT(events, SizeIs(100)) << "the line about the others is one of them";
  EXPECT_EQ(events[0], R"({"at_ms":1700000001000,"event":"left_out","count":31})");
}

TEST_F(ViewNotesTest, what_waits_is_bounded_and_what_is_left_out_is_counted) {
  for (int second = 0; second < 20; ++second) {
    fail_jobs(100, 9);
    now_.wall_ms += 1000;
  }
  EXPECT_THAT(round(9).events, SizeIs(ViewNotes::kHeldMax));
  fail_jobs(1);
  EXPECT_THAT(round(9).events, testing::Contains(HasSubstr(R"("count":1000)")));
}

TEST_F(ViewNotesTest, only_the_newest_status_of_a_node_is_written_and_one_that_left_is_removed) {
  notes_.note_node(node("a@1", 1), 0, now_);
  notes_.note_node(node("a@1", 2), 0, now_);
  notes_.note_node(node("b@1"), 0, now_);
  notes_.note_gone("b@1", 0);
  const auto nodes = round(0).nodes;
  ASSERT_THAT(nodes, SizeIs(2));
  EXPECT_THAT(nodes[0].json, HasSubstr(R"("running":2)"));
  EXPECT_EQ(nodes[1].node, "b@1");
  EXPECT_EQ(nodes[1].json, "") << "empty removes it";
}

TEST_F(ViewNotesTest, a_node_shows_the_isolates_that_it_has) {
  NodeInfo info = node("a@1");
  notes_.note_node(info, 0, now_);
  EXPECT_THAT(round(0).nodes.at(0).json, testing::Not(HasSubstr("isolates")));
  info.isolates = {{"resize", 4, 3, 2, 1000, 1, 7, 65'000}};
  notes_.note_node(info, 0, now_);
  EXPECT_THAT(
      round(0).nodes.at(0).json,
      HasSubstr(R"("isolates":[{"task":"resize","total":4,"busy":3,"waiting":2,"jobs":1000,)"
                R"("crashes":1,"recycles":7,"busy_ms":65000}])"));
}

TEST_F(ViewNotesTest, a_label_that_is_no_text_does_not_hold_up_the_others) {
  NodeInfo info = node("a@1");
  info.labels = {{"zone", "\xff"}};
  notes_.note_node(info, 0, now_);
  EXPECT_THAT(round(0).nodes, SizeIs(1));
}

TEST_F(ViewNotesTest, rounds_that_fail_do_not_pile_up_events) {
  for (int second = 0; second < 30; ++second) {
    fail_jobs(100);
    notes_.release(0, projector_);
    now_.mono_ms += 1000;
    now_.wall_ms += 1000;
    (void)projector_.next(now_);
    projector_.failed();
  }
  EXPECT_THAT(round(0).events, SizeIs(1000));
}

}  // namespace
}  // namespace sluice::broker_view_notes_test
