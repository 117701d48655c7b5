// The one place where the worker reads the time.
#pragma once

#include <chrono>
#include <cstdint>

#include "common/time.h"

namespace sluice {

[[nodiscard]] inline Now clock_now() {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  return {duration_cast<milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(),
          duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count()};
}

}  // namespace sluice
