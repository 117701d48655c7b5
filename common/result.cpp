#include "common/result.h"

namespace sluice {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::malformed:
      return "malformed";
    case ErrorCode::unsupported_version:
      return "unsupported_version";
    case ErrorCode::too_large:
      return "too_large";
    case ErrorCode::bad_field:
      return "bad_field";
    case ErrorCode::unknown_op:
      return "unknown_op";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::conflict:
      return "conflict";
    case ErrorCode::too_late:
      return "too_late";
    case ErrorCode::queue_full:
      return "queue_full";
    case ErrorCode::store_full:
      return "store_full";
    case ErrorCode::store_unavailable:
      return "store_unavailable";
    case ErrorCode::retry_later:
      return "retry_later";
    case ErrorCode::draining:
      return "draining";
    case ErrorCode::denied:
      return "denied";
    case ErrorCode::internal:
      return "internal";
  }
  return "internal";
}

std::optional<ErrorCode> parse_error_code(std::string_view word) {
  for (int i = 0; i <= static_cast<int>(ErrorCode::internal); ++i)
    if (to_string(static_cast<ErrorCode>(i)) == word) return static_cast<ErrorCode>(i);
  return std::nullopt;
}

}  // namespace sluice
