// The answer to a call as libcurl hands it over, piece by piece, within its bounds; and what the
// whole of it comes to.
#pragma once

#include <cstddef>

#include "worker/tasks/http_call.h"

namespace sluice {

// libcurl's callbacks: `user` is the call, the value what is taken of `size` bytes.
[[nodiscard]] std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* user);
[[nodiscard]] std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* user);

// Completes the reply of a call that libcurl ended with `curl_code`.
void judge(HttpCall& call, int curl_code);

}  // namespace sluice
