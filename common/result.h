// Wrong input from outside is a value, not an exception: Result<T> at every edge.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace sluice {

// The closed list of error codes of the wire (PROTOCOL.md, "Errors"). Programs compare the code;
// people read the detail.
enum class ErrorCode : unsigned char {
  malformed,            // not one msgpack map, a missing or repeated key, trailing bytes
  unsupported_version,  // the other side speaks another protocol version
  too_large,            // a bound on a size or a count was passed
  bad_field,            // a key of a wrong type or value outside its range or grammar
  unknown_op,
  not_found,
  conflict,  // the id exists with other content
  too_late,  // the job has already ended
  queue_full,
  store_full,         // Redis is near its maxmemory
  store_unavailable,  // Redis is away; try again after retry_after_ms
  retry_later,        // the broker's own memory bound is reached
  draining,           // the broker is stopping
  denied,
  internal,
};

[[nodiscard]] std::string_view to_string(ErrorCode code);
[[nodiscard]] std::optional<ErrorCode> parse_error_code(std::string_view word);

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string where;   // the field, option or address that is wrong; may be empty
  std::string detail;  // one sentence for people
};

template <typename T>
using Result = tl::expected<T, Error>;

[[nodiscard]] inline tl::unexpected<Error> fail(ErrorCode code,
                                                std::string where,
                                                std::string detail) {
  return tl::unexpected<Error>(Error{code, std::move(where), std::move(detail)});
}

}  // namespace sluice
