// A call of a CurlLoop: its request, and while that is under way libcurl's handle and what came so
// far. A redirect is a new request of the same call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/tasks/curl_loop.h"
#include "worker/tasks/http_connections.h"

struct curl_slist;

namespace sluice {

// libcurl's names for these are CURL (which is void) and curl_slist.
using EasyHandle = std::unique_ptr<void, void (*)(void*)>;
using HeaderList = std::unique_ptr<curl_slist, void (*)(curl_slist*)>;

struct HttpCall {
  CallId id = 0;
  HttpRequest request;
  std::int64_t deadline_mono_ms = kNever;
  bool was_redirected = false;
  std::string room;  // its place there while it is under way or in line; empty without one
  EasyHandle easy{nullptr, nullptr};
  HeaderList headers{nullptr, nullptr};
  std::array<char, 256> error_text{};
  HttpConnections* connections = nullptr;
  // What libcurl's callbacks saw of the current request.
  HttpReply reply;
  std::size_t header_bytes = 0;
  std::size_t body_bytes = 0;  // that came, kept or not
  bool is_too_large = false;
  bool is_refused = false;
  std::vector<int> sockets;  // opened for it: none when it uses a connection again
  bool is_stale = false;     // the one that it was to use again is of no use
  bool has_bad_length = false;
  bool has_said_its_end = true;  // as a peer over TLS does before it closes

  // A redirected one has its own already.
  [[nodiscard]] std::int64_t end_mono_ms() const;
};

// Makes the handle of the current request, with which libcurl may begin. `connections` must outlive
// every handle. Throws std::runtime_error and std::bad_alloc.
void set_up(HttpCall& call, HttpConnections& connections);

}  // namespace sluice
