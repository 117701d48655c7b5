#include "worker/runtime/cgroup_place.h"

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "common/config_value.h"

namespace sluice {

namespace {

std::string text_of_proc(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool names_controller(std::string_view list, std::string_view controller) {
  const auto all = split_by_commas(list);
  return std::ranges::find(all, controller) != all.end();
}

// One tree of groups, as far as this process sees it.
struct Hierarchy {
  std::string root;   // which group is seen at the mount point
  std::string mount;  // where
};

// A line of mountinfo: ID PARENT DEVICE ROOT MOUNT OPTIONS [FIELDS] - TYPE SOURCE OPTIONS. v2 has
// no controller among its options: an empty `controller` asks for it.
std::optional<Hierarchy> find_hierarchy(const std::string& mounts, std::string_view controller) {
  std::istringstream lines(mounts);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash));
    std::istringstream behind(line.substr(dash + 3));
    std::string skipped, type, options;
    Hierarchy found;
    before >> skipped >> skipped >> skipped >> found.root >> found.mount;
    behind >> type >> skipped >> options;
    const bool is_it = controller.empty()
                           ? type == "cgroup2"
                           : type == "cgroup" && names_controller(options, controller);
    if (is_it) return found;
  }
  return std::nullopt;
}

// A line of /proc/self/cgroup: NUMBER:CONTROLLERS:PATH; v2 is `0::PATH`.
std::optional<std::string> group_in(const std::string& groups, std::string_view controller) {
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t names = line.find(':') + 1;
    const std::size_t path = line.find(':', names) + 1;
    if (names == 0 || path == 0) continue;
    const std::string list = line.substr(names, path - 1 - names);
    const bool is_it = controller.empty() ? list.empty() : names_controller(list, controller);
    if (is_it) return line.substr(path);
  }
  return std::nullopt;
}

// The directory of this process' own group. Nothing where none is mounted, or it is above the
// mount.
std::optional<std::string> own_directory(const CgroupFacts& facts, std::string_view controller) {
  const auto hierarchy = find_hierarchy(facts.mounts, controller);
  auto group = group_in(facts.groups, controller);
  if (!hierarchy || !group) return std::nullopt;
  if (hierarchy->root != "/") {
    if (!group->starts_with(hierarchy->root)) return std::nullopt;
    group->erase(0, hierarchy->root.size());
  }
  return *group == "/" || group->empty() ? hierarchy->mount : hierarchy->mount + *group;
}

// As systemd marks what a unit with Delegate= may do as it likes with; or another user than root
// has it; or it is the uppermost that this namespace has.
bool is_delegated(const std::string& directory, bool is_top_of_namespace) {
  for (const char* mark : {"user.delegate", "trusted.delegate"}) {
    char value = 0;
    if (::getxattr(directory.c_str(), mark, &value, 1) == 1 && value == '1') return true;
  }

  struct stat status {};

  const bool is_users =
      ::geteuid() != 0 && ::stat(directory.c_str(), &status) == 0 && status.st_uid == ::geteuid();
  return is_users || is_top_of_namespace;
}

tl::unexpected<Error> refused(std::string detail) {
  return fail(ErrorCode::denied, "cgroups", std::move(detail));
}

// What keeps the node from making groups in `directory`, or nothing.
std::optional<std::string> hindrance(const CgroupFacts& facts,
                                     std::string_view controller,
                                     const std::string& directory) {
  for (const char* file : {"", "/cgroup.procs"})
    if (::access((directory + file).c_str(), W_OK) != 0)
      return "the node may not write to " + directory;
  const bool is_top = facts.is_in_namespace && group_in(facts.groups, controller) == "/";
  if (facts.must_be_delegated && !is_delegated(directory, is_top))
    return "its group " + directory + " was not given to it (systemd does so with Delegate=yes)";
  return std::nullopt;
}

// Whether the tree of v2 is there, and counts what is wanted in this group.
bool counts_all(const std::string& directory) {
  std::istringstream words(text_of_proc((directory + "/cgroup.controllers").c_str()));
  const std::set<std::string> all{std::istream_iterator<std::string>(words), {}};
  return all.contains("memory") && all.contains("pids");
}

}  // namespace

CgroupFacts cgroup_facts() {
  // The namespace of the first process of the machine has this number in every kernel.
  constexpr std::string_view kFirst = "cgroup:[4026531835]";
  std::array<char, 64> name{};
  const ssize_t size = ::readlink("/proc/self/ns/cgroup", name.data(), name.size());
  const bool is_known = size > 0;
  return {.groups = text_of_proc("/proc/self/cgroup"),
          .mounts = text_of_proc("/proc/self/mountinfo"),
          .is_in_namespace =
              is_known && std::string_view(name.data(), static_cast<std::size_t>(size)) != kFirst};
}

Result<CgroupPlace> find_cgroup_place(const CgroupFacts& facts) {
  const auto unified = own_directory(facts, {});
  if (unified && counts_all(*unified)) {
    if (const auto why = hindrance(facts, {}, *unified)) return refused(*why);
    return CgroupPlace{true, *unified, *unified};
  }
  auto memory = own_directory(facts, "memory");
  auto processes = own_directory(facts, "pids");
  if (!memory || !processes)
    return refused("no control groups that count memory and processes are mounted here");
  if (const auto why = hindrance(facts, "memory", *memory)) return refused(*why);
  if (const auto why = hindrance(facts, "pids", *processes)) return refused(*why);
  return CgroupPlace{false, std::move(*memory), std::move(*processes)};
}

}  // namespace sluice
