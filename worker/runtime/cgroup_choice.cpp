#include "worker/runtime/cgroup_choice.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "worker/runtime/unique_fd.h"

namespace sluice {

namespace {

int put_into(const std::string& path, std::string_view text) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.is_open()) return errno;
  return ::write(file.get(), text.data(), text.size()) < 0 ? errno : 0;
}

tl::unexpected<Error> denied(const std::string& directory, int error) {
  return fail(ErrorCode::denied,
              "cgroups",
              error == EBUSY
                  ? "other processes than the node are in its group " + directory
                  : "no groups can be made in " + directory + ": " + std::strerror(error));
}

// The node into a group of its own, and the controllers to all of them. Where the node cannot go
// back, `own` is where it is.
Result<void> settle(const CgroupPlace& place, Cgroup& own) {
  const std::string& directory = place.memory_path;
  auto made = Cgroup::make(place);
  if (!made) return denied(directory, made.error());
  own = std::move(*made);
  int error = own.enter();
  if (error == 0) error = put_into(directory + "/cgroup.subtree_control", "+memory +pids");
  if (error == 0) return {};
  if (put_into(directory + "/cgroup.procs", "0") == 0) own.remove();
  return denied(directory, error);
}

// One like those of programs. What it needs may be missing in ways that nobody has thought of.
Result<void> try_out(const CgroupPlace& place) {
  auto group = Cgroup::make(place);
  const int error =
      group ? group->begin({.memory_bytes = 64 << 20, .processes = 16}) : group.error();
  if (group) group->remove();
  if (error == 0) return {};
  return denied(place.memory_path, error);
}

// Without groups, if that may be.
Result<CgroupChoice> do_without(CgroupsWanted wanted, const Error& error) {
  if (wanted != CgroupsWanted::required) return CgroupChoice{std::nullopt, error.detail};
  return fail(
      ErrorCode::denied,
      "cgroups",
      "are required, and cannot be had: " + error.detail +
          ". Give the node a group of its own (systemd: Delegate=yes), or say cgroups = \"auto\"");
}

}  // namespace

Result<CgroupChoice> choose_cgroups(CgroupsWanted wanted, CgroupFacts facts) {
  if (wanted == CgroupsWanted::off) return CgroupChoice{std::nullopt, "cgroups are off"};
  facts.must_be_delegated = wanted != CgroupsWanted::required;
  auto place = find_cgroup_place(facts);
  if (!place) return do_without(wanted, place.error());
  std::string reason = "below " + place->memory_path;
  return CgroupChoice{std::move(*place), std::move(reason)};
}

Result<CgroupChoice> take_up_cgroups(CgroupsWanted wanted, CgroupFacts facts) {
  auto choice = choose_cgroups(wanted, std::move(facts));
  if (!choice || !choice->place) return choice;
  const CgroupPlace& place = *choice->place;
  (void)sweep_cgroups(place);
  const auto settled = place.is_unified ? settle(place, choice->own) : Result<void>();
  const auto tried = settled ? try_out(place) : settled;
  if (tried) return choice;
  auto without = do_without(wanted, tried.error());
  if (without) without->own = std::move(choice->own);  // whoever is in there is not swept
  return without;
}

}  // namespace sluice
