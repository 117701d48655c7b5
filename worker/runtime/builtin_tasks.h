// Tasks that sluice-worker brings along, for demonstrations and tests:
//   echo   gives back its payload
//   noop   gives back nothing
//   sleep  {"ms": 200}, or the number alone; ends early when it is asked to stop
//   count  {"to": 10, "ms": 100}: counts, at that pace, and saves its place, so that the next
//   attempt
//          goes on from there; answers {"from": FIRST, "to": 10}
//   fail   {"code": "...", "message": "...", "retryable": false, "retry_after_ms": 100}
//   crash  {"signal": "SIGSEGV", "attempts": 2}: dies of this signal in its first attempts, in all
//   of
//          them without a number; then gives back the number of the attempt
#pragma once

#include <array>
#include <string_view>

#include "worker/runtime/handler_call.h"

namespace sluice {

inline constexpr std::array<std::string_view, 5> kBuiltinTasks{
    "echo", "noop", "sleep", "count", "fail"};

inline constexpr std::string_view kCrashTask = "crash";

// Those of kBuiltinTasks.
[[nodiscard]] Handlers builtin_handlers();

// kCrashTask, which ends the process that it runs in.
[[nodiscard]] Handlers crashing_handlers();

}  // namespace sluice
