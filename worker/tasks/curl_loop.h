// Any number of HTTP calls at once from one thread: libcurl's multi interface with socket action,
// under one epoll descriptor that the node's loop watches. Nothing here blocks and nothing polls.
//
// Not thread-safe. libcurl stays inside curl_loop.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/job.h"
#include "worker/tasks/http_connections.h"
#include "worker/tasks/target_check.h"

namespace sluice {

struct HttpRequest {
  std::string method = "GET";
  Target target;
  std::vector<Header> headers;  // names and values without control characters
  std::optional<std::string> body;
  std::shared_ptr<const TargetRules> rules;
  // Statuses ("404", "2xx") whose bodies are wanted whole; of others the beginning is kept.
  std::vector<std::string> expect = {"2xx"};
  std::size_t response_bytes_max = 1 << 20;
  std::int64_t connect_timeout_ms = 5000;
  // Of the whole call from its beginning, redirects included; 0 = none.
  std::int64_t timeout_ms = 0;
  std::int64_t deadline_mono_ms = kNever;  // of whoever asks; it may have to wait before it begins
  // No byte in either direction for so long ends it, or up to 5 s later, for libcurl averages over
  // so much; 0 = never.
  std::int64_t stall_ms = 0;
  unsigned redirects_max = 3;
  bool is_urgent = false;  // neither a pause of its target nor want of room holds it back
  // At most so many calls of `group` to one origin are under way at once, the others wait; 0 = any
  // number. A group has one such bound.
  std::string group;
  std::size_t calls_per_host = 0;
  std::string ca_file;  // empty = the system's
};

// `error_code` is empty when a whole answer came, whatever its status.
struct HttpReply {
  int status = 0;  // also set with response_too_large
  std::vector<Header> headers;
  std::string body;
  std::string url;  // of the last request, after redirects
  std::string error_code;
  std::string error;
  bool retryable = false;

  // The last value of a header, compared without case; empty when there is none.
  [[nodiscard]] std::string header(std::string_view name) const;
};

// By an entry that names it, or its class.
[[nodiscard]] bool is_expected(int status, const std::vector<std::string>& expect);

using CallId = std::uint64_t;

struct FinishedCall {
  CallId id = 0;
  HttpReply reply;
};

class CurlLoop {
 public:
  static constexpr std::size_t kDescriptorsKept = HttpConnections::kIdleMax;
  static constexpr std::size_t kDescriptorsPerCall = 2;  // while two addresses are tried

  CurlLoop();  // throws std::runtime_error
  ~CurlLoop();
  CurlLoop(const CurlLoop&) = delete;
  CurlLoop& operator=(const CurlLoop&) = delete;

  // Never fails; what is wrong comes as a reply. Ids are not reused. While the origin of the target
  // is paused, for as long as its last 429 named, the call waits; it is `target_paused` when its
  // own time would be over before. While there is no room for it (`calls_per_host`) it waits for
  // its turn; it is `no_room` when the deadline of whoever asks comes first.
  [[nodiscard]] CallId start(HttpRequest request);
  // Ends a call at once, its connection with it; no reply comes. Unknown ids are ignored.
  void cancel(CallId id);

  // Level-triggered, readable when poll() has something to do.
  [[nodiscard]] int fd() const;
  // Makes fd() readable until the next poll().
  void wake();
  [[nodiscard]] std::vector<FinishedCall> poll();
  // Under way, and waiting for the end of a pause or for room.
  [[nodiscard]] std::size_t call_count() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What becomes of a request that was answered by a redirect to `target`: the method as browsers do
// it, and no header that may be a credential once the origin changes.
[[nodiscard]] HttpRequest redirected(HttpRequest request, int status, Target target);

}  // namespace sluice
