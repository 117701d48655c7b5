// Control groups of the kernel that this test runs on, where it was given one to make them in.
#pragma once

#include <gtest/gtest.h>

#include "worker/runtime/cgroup_choice.h"

namespace sluice {

// Taken up once in a process: with v2 it moves, and is then in a group that was given to nobody.
inline const CgroupChoice& real_cgroups() {
  static const CgroupChoice choice =
      take_up_cgroups(CgroupsWanted::automatic, cgroup_facts()).value();
  return choice;
}

class RealCgroupTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!real_cgroups().place) GTEST_SKIP() << real_cgroups().reason;
  }

  static const CgroupPlace& place() { return *real_cgroups().place; }
};

}  // namespace sluice
