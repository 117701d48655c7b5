// Start = the view + the log after its checkpoint. Puts the entries that the view does not contain
// over what was read from it.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "broker/store/store.h"

namespace sluice {

// Changes `opened.snapshot` (live jobs and queues as the view has them) into what stands after the
// last of `opened.unprojected`. `read_payload` gives the payload that the view has of a job that is
// not among the live ones (a failed one that was retried); nothing when it has none. Errors:
// malformed.
[[nodiscard]] std::optional<Error> replay_log(
    Opened& opened, const std::function<std::optional<std::string>(const JobId&)>& read_payload);

}  // namespace sluice
