// Which refusals pass (PROTOCOL.md, "Errors").
#pragma once

#include "common/result.h"

namespace sluice {

// Nothing was done, and the same request may be taken later.
[[nodiscard]] constexpr bool is_retryable(ErrorCode code) {
  return code == ErrorCode::store_unavailable || code == ErrorCode::store_full ||
         code == ErrorCode::retry_later || code == ErrorCode::queue_full ||
         code == ErrorCode::draining;
}

}  // namespace sluice
