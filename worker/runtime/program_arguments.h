// The arguments of a program for one job.
#pragma once

#include <string>
#include <vector>

#include "common/protocol/messages.h"
#include "common/result.h"

namespace sluice {

// In `program`, {payload}, {id} and {FIELD} of a JSON or msgpack map in the payload are filled in,
// each within its own argument; ${NAME} and other braces stay. Errors: bad_field with the
// placeholder that the payload does not have as a plain value, or with a NUL in it.
[[nodiscard]] Result<std::vector<std::string>> fill_arguments(
    const std::vector<std::string>& program, const RunJob& job);

}  // namespace sluice
