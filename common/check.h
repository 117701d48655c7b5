// CHECK(condition): a bug stops the process, also in release builds. Safe here because the store is
// ahead of every message sent: a restart finds everything that anybody was told.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace sluice::detail {

[[noreturn]] inline void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace sluice::detail

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) [[unlikely]]                                    \
      ::sluice::detail::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)
