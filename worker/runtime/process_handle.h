// A process held by a descriptor (pidfd_open(2)): its number cannot become another's meanwhile.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "worker/runtime/unique_fd.h"

namespace sluice {

// Not open where it is gone, or where there is no descriptor to be had.
[[nodiscard]] UniqueFd hold_process(pid_t pid);

// 0, or -1 with errno. Signal 0 only asks whether it is there.
int send_signal(const UniqueFd& process, int signal);

// Whether it has ended by then, as a zombie at least.
[[nodiscard]] bool has_ended_by(const UniqueFd& process, std::int64_t mono_ms);

}  // namespace sluice
