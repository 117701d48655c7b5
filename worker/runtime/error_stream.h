// The node's end of what a process writes to its standard error.
#pragma once

#include <string>

#include "worker/runtime/unique_fd.h"

namespace sluice {

class ErrorStream {
 public:
  // The reading end of a pipe; it does not block from now on.
  explicit ErrorStream(UniqueFd pipe);

  // Readable when there is something; -1 after its end.
  [[nodiscard]] int fd() const { return pipe_.get(); }

  // What there is, but so much at most that a flood does not starve the others: more than a pipe
  // holds.
  [[nodiscard]] std::string read();

  // A new job's: what was written before is no part of why it fails.
  void begin() { tail_.clear(); }

  // What was written last, for people.
  [[nodiscard]] const std::string& tail() const { return tail_; }

 private:
  UniqueFd pipe_;
  std::string tail_;
};

}  // namespace sluice
