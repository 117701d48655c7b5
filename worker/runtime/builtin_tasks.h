// Tasks that sluice-worker brings along, for demonstrations and tests:
//   echo   gives back its payload
//   noop   gives back nothing
//   sleep  {"ms": 200}, or the number alone; ends early when it is asked to stop
//   count  {"to": 10, "ms": 100}: counts, at that pace, and saves its place, so that the next
//   attempt
//          goes on from there; answers {"from": FIRST, "to": 10}
//   fail   {"code": "...", "message": "...", "retryable": false, "retry_after_ms": 100}
#pragma once

#include <array>
#include <string_view>

#include "worker/runtime/handler_call.h"

namespace sluice {

inline constexpr std::array<std::string_view, 5> kBuiltinTasks{
    "echo", "noop", "sleep", "count", "fail"};

[[nodiscard]] Handlers builtin_handlers();

}  // namespace sluice
