#include <gtest/gtest.h>

#include "worker/tasks/target_room.h"

namespace sluice {

namespace {

TEST(TargetRoom, so_many_enter_and_the_next_comes_in_when_one_leaves) {
  TargetRoom room;
  EXPECT_TRUE(room.enter("a", 2));
  EXPECT_TRUE(room.enter("a", 2));
  EXPECT_FALSE(room.enter("a", 2));
  room.wait("a", 7);
  room.wait("a", 8);
  EXPECT_FALSE(room.next("a")) << "still full";
  room.leave("a");
  EXPECT_EQ(room.next("a"), 7U);
  EXPECT_TRUE(room.enter("a", 2));
  EXPECT_FALSE(room.next("a"));
  room.leave("a");
  EXPECT_EQ(room.next("a"), 8U);
}

TEST(TargetRoom, groups_have_nothing_to_do_with_each_other) {
  TargetRoom room;
  EXPECT_TRUE(room.enter("a", 1));
  EXPECT_TRUE(room.enter("b", 1));
  room.wait("a", 1);
  room.leave("b");
  EXPECT_FALSE(room.next("a"));
  EXPECT_FALSE(room.next("b"));
}

TEST(TargetRoom, one_that_goes_on_elsewhere_leaves_room_for_the_one_behind_it) {
  TargetRoom room;
  EXPECT_TRUE(room.enter("a", 1));
  for (const std::uint64_t call : {1U, 2U, 3U})
    room.wait("a", call);
  room.forget("a", 2);
  room.leave("a");
  EXPECT_EQ(room.next("a"), 1U);  // and does not enter: its target is paused by now
  EXPECT_EQ(room.next("a"), 3U);
  EXPECT_FALSE(room.next("a"));
}

TEST(TargetRoom, what_was_never_there_may_leave) {
  TargetRoom room;
  room.leave("a");
  room.forget("a", 1);
  EXPECT_TRUE(room.enter("a", 1));
  room.leave("a");
  room.leave("a");
  EXPECT_TRUE(room.enter("a", 1));
  EXPECT_FALSE(room.enter("a", 1));
}

}  // namespace

}  // namespace sluice
