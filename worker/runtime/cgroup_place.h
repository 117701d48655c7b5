// Where a node may make control groups of the kernel (cgroups): below the group that it is in
// itself. Of v2, the one tree, it must have been given that group: what is below a group belongs to
// whoever manages it, mostly systemd, which may move or remove it. Of v1, one tree for memory and
// one for processes, both count.
#pragma once

#include <string>

#include "common/result.h"

namespace sluice {

// The node's own group in the tree that counts memory, and in the one that counts processes.
struct CgroupPlace {
  bool is_unified = true;  // v2: both are one directory
  std::string memory_path;
  std::string processes_path;
};

// What /proc says of this process.
struct CgroupFacts {
  std::string groups;             // /proc/self/cgroup
  std::string mounts;             // /proc/self/mountinfo
  bool is_in_namespace = false;   // with a cgroup namespace of its own, as in a container
  bool must_be_delegated = true;  // else whatever may be written will do
};

[[nodiscard]] CgroupFacts cgroup_facts();

// Changes nothing. Errors: denied, with a sentence about what is missing as its detail.
[[nodiscard]] Result<CgroupPlace> find_cgroup_place(const CgroupFacts& facts);

}  // namespace sluice
