// What a program says of its progress on descriptor 3, a line each: `PERCENT TEXT`, or one JSON map
// as a kept program says it, which may have a checkpoint.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "worker/core/attempt.h"

namespace sluice {

class ProgressLines {
 public:
  // What these bytes, and those before them, say of this attempt: the newest progress and the
  // newest checkpoint among their lines. Lines that are no progress are passed over.
  [[nodiscard]] std::optional<AttemptProgress> take(std::string_view bytes,
                                                    const JobId& id,
                                                    Fence fence);

  // What was wrong with the first of those, for people; empty = nothing.
  [[nodiscard]] const std::string& complaint() const { return complaint_; }

 private:
  std::string line_;  // the beginning of one
  bool is_overlong_ = false;
  std::string complaint_;
};

}  // namespace sluice
