// What holds the programs of a node to their limits: control groups, or rlimits alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/result.h"
#include "worker/runtime/cgroup.h"
#include "worker/runtime/cgroup_place.h"

namespace sluice {

// The setting `cgroups`.
enum class CgroupsWanted : std::uint8_t {
  automatic,  // where the node was given a group of its own
  off,
  required  // in any group that it may write to, or the node does not start
};

struct CgroupChoice {
  std::optional<CgroupPlace> place;  // nothing: rlimits alone
  std::string reason;                // for people: where groups are made, or why none are
  Cgroup own = {};                   // of v2: where the node itself is
};

// Changes nothing. Errors: denied, where they are required: what is in the way, and what to do.
[[nodiscard]] Result<CgroupChoice> choose_cgroups(CgroupsWanted wanted, CgroupFacts facts);

// As choose_cgroups(), and then there are groups to be had: what an earlier node left is swept, and
// with v2, which has processes only where it has no groups below, the node moves into one of its
// own. Before it has children: those that it has stay behind, and are in the way.
[[nodiscard]] Result<CgroupChoice> take_up_cgroups(CgroupsWanted wanted, CgroupFacts facts);

}  // namespace sluice
