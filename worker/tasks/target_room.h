// Room for calls: how many calls of one group are under way, and which wait for one of them to end,
// first come, first served. A group is whatever its name says; here, a task's calls to one origin.
// Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>

namespace sluice {

class TargetRoom {
 public:
  // Counts a call as under way; false when `most` are already. Groups have one `most` each.
  [[nodiscard]] bool enter(const std::string& group, std::size_t most);

  // One that was counted is over.
  void leave(const std::string& group);

  // Puts a call that found no room at the end of its group's line.
  void wait(const std::string& group, std::uint64_t call);

  // Takes it out of the line again.
  void forget(const std::string& group, std::uint64_t call);

  // The first in line, out of it, when there is room again; it has to enter().
  [[nodiscard]] std::optional<std::uint64_t> next(const std::string& group);

 private:
  struct Group {
    std::size_t most = 0;
    std::size_t under_way = 0;
    std::deque<std::uint64_t> line;
  };

  void drop_if_empty(const std::string& name);

  std::unordered_map<std::string, Group> groups_;
};

}  // namespace sluice
