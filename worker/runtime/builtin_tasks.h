// Tasks that sluice-worker brings along, for demonstrations and tests:
//   echo   gives back its payload
//   noop   gives back nothing
//   sleep  {"ms": 200}, or the number alone; ends early when it is asked to stop
//   fail   {"code": "...", "message": "...", "retryable": false, "retry_after_ms": 100}
#pragma once

#include <array>
#include <string_view>

#include "worker/runtime/handler_call.h"

namespace sluice {

inline constexpr std::array<std::string_view, 4> kBuiltinTasks{"echo", "noop", "sleep", "fail"};

[[nodiscard]] Handlers builtin_handlers();

}  // namespace sluice
