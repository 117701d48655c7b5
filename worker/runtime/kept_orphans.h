// What a kept program leaves behind. A process whose parent has ended, such as a daemon, falls to
// the program's keeper, and lives until the program is replaced: to end it after a job might take
// away what the program wants for the next one. So it is seen, and told.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "worker/runtime/unique_fd.h"

namespace sluice {

class KeptOrphans {
 public:
  // Once, when the program begins. Without it, and without /proc, nothing is seen.
  void attach(pid_t program);

  // Of those that were not there when it was asked before: a line for people of each of the first
  // eight, and one that counts the others. Costs one read while nothing changes.
  [[nodiscard]] std::string take_new();

 private:
  UniqueFd children_;         // of the keeper: its /proc file
  std::string text_;          // what stood there
  std::vector<pid_t> known_;  // of that; the program first
};

}  // namespace sluice
