// How libcurl is to make a request, and what it asks on the way: may it connect there, may it use
// this connection again?
#include "worker/tasks/http_call.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#include <curl/curl.h>

#include "common/clock.h"
#include "worker/tasks/http_answer.h"
#include "worker/tasks/tls_end.h"

namespace sluice {

static_assert(sizeof(HttpCall::error_text) == CURL_ERROR_SIZE);

namespace {

curl_socket_t open_socket(void* user, curlsocktype, curl_sockaddr* address) {
  HttpCall& call = *static_cast<HttpCall*>(user);
  if (!call.request.rules->allows(call.request.target.host, &address->addr)) {
    // Of a host with several addresses one that is open to it decides.
    call.is_refused = call.sockets.empty();
    return CURL_SOCKET_BAD;
  }
  call.is_refused = false;
  const int fd = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd < 0) return fd;
  call.connections->opened(fd);
  call.sockets.push_back(fd);
  return fd;
}

int close_socket(void* user, curl_socket_t fd) {
  static_cast<HttpConnections*>(user)->closed(fd);
  return ::close(fd);
}

// Also before a request on a connection that another task opened under its own rules.
int before_request(void* user, char* remote, char*, int remote_port, int local_port) {
  HttpCall& call = *static_cast<HttpCall*>(user);
  HttpConnections& connections = *call.connections;
  if (!call.request.rules->allows(call.request.target.host, std::string(remote))) {
    call.is_refused = true;
    return CURL_PREREQFUNC_ABORT;
  }
  const std::string ends =
      std::to_string(local_port) + ' ' + remote + ' ' + std::to_string(remote_port);
  if (call.sockets.empty()) {
    call.is_stale = connections.has_input(ends);
    return call.is_stale ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
  }
  for (const int fd : call.sockets)
    if (call.sockets.size() == 1 || has_local_port(fd, local_port)) connections.remember(fd, ends);
  return CURL_PREREQFUNC_OK;
}

// libcurl's own bound of what is kept open counts those in use, too: when there are more, no call
// finds one. So each is judged as it becomes idle; this is called, among other times, right before,
// which is also the last time that its TLS can be looked at.
int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  HttpCall& call = *static_cast<HttpCall*>(user);
  call.has_said_its_end = has_said_its_end(call.easy.get());
  const long is_closed_after = call.connections->has_room_for_idle() ? 0L : 1L;
  curl_easy_setopt(call.easy.get(), CURLOPT_FORBID_REUSE, is_closed_after);
  return 0;
}

template <typename Value>
void set(CURL* easy, CURLoption option, Value value) {
  if (curl_easy_setopt(easy, option, value) != CURLE_OK)
    throw std::runtime_error("libcurl refuses option " + std::to_string(option));
}

void set_bounds(HttpCall& call) {
  CURL* easy = call.easy.get();
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_QUICK_EXIT, 1L);  // do not wait for a name lookup when a call is cancelled
  set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  // A connection is one call's: what ends either ends no other, and those that are idle are few.
  set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(easy, CURLOPT_FOLLOWLOCATION, 0L);
  set(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  set(easy, CURLOPT_PROXY, "");
  set(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  set(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  set(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(call.request.connect_timeout_ms));
  if (call.request.stall_ms > 0) {
    set(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>((call.request.stall_ms + 999) / 1000));
  }
  if (call.deadline_mono_ms != kNever) {
    const std::int64_t left = call.deadline_mono_ms - clock_now().mono_ms;
    set(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<std::int64_t>(left, 1)));
  }
  if (!call.request.ca_file.empty()) set(easy, CURLOPT_CAINFO, call.request.ca_file.c_str());
}

void set_callbacks(HttpCall& call) {
  CURL* easy = call.easy.get();
  set(easy, CURLOPT_PRIVATE, static_cast<void*>(&call));
  set(easy, CURLOPT_ERRORBUFFER, call.error_text.data());
  set(easy, CURLOPT_WRITEFUNCTION, on_body);
  set(easy, CURLOPT_WRITEDATA, static_cast<void*>(&call));
  set(easy, CURLOPT_HEADERFUNCTION, on_header);
  set(easy, CURLOPT_HEADERDATA, static_cast<void*>(&call));
  set(easy, CURLOPT_NOPROGRESS, 0L);
  set(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
  set(easy, CURLOPT_XFERINFODATA, static_cast<void*>(&call));
  set(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  set(easy, CURLOPT_OPENSOCKETDATA, static_cast<void*>(&call));
  set(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);  // of a connection, which outlives the call
  set(easy, CURLOPT_CLOSESOCKETDATA, static_cast<void*>(call.connections));
  set(easy, CURLOPT_PREREQFUNCTION, before_request);
  set(easy, CURLOPT_PREREQDATA, static_cast<void*>(&call));
}

void add_header(HeaderList& list, const std::string& line) {
  curl_slist* longer = curl_slist_append(list.get(), line.c_str());
  if (longer == nullptr) throw std::bad_alloc();
  (void)list.release();
  list = HeaderList(longer, curl_slist_free_all);
}

// Also without a body: a server may answer 411 to a request of these that names no length.
bool has_length(std::string_view method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

void set_request(HttpCall& call) {
  CURL* easy = call.easy.get();
  const HttpRequest& request = call.request;
  set(easy, CURLOPT_URL, request.target.url.c_str());
  // libcurl would look at every connection that is in use, for each call anew.
  if (call.is_stale || !call.connections->has_one_to_spare()) set(easy, CURLOPT_FRESH_CONNECT, 1L);
  if (request.body) {
    set(easy, CURLOPT_POSTFIELDS, request.body->data());
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body->size()));
  } else if (has_length(request.method)) {
    set(easy, CURLOPT_POSTFIELDS, "");
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t{0});
  }
  if (request.method == "HEAD") set(easy, CURLOPT_NOBODY, 1L);
  set(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  call.headers = {nullptr, curl_slist_free_all};
  // No wait for a "100 Continue", and no content type that nobody named; a later line wins.
  add_header(call.headers, "Expect:");
  const bool has_type =
      std::any_of(request.headers.begin(), request.headers.end(), [](const Header& header) {
        return curl_strequal(header.name.c_str(), "content-type") != 0;
      });
  if (!has_type) add_header(call.headers, "Content-Type:");
  for (const Header& header : request.headers)
    add_header(call.headers,
               header.value.empty() ? header.name + ";" : header.name + ": " + header.value);
  set(easy, CURLOPT_HTTPHEADER, call.headers.get());
}

}  // namespace

std::int64_t HttpCall::end_mono_ms() const {
  return std::min(request.deadline_mono_ms, deadline_mono_ms);
}

void set_up(HttpCall& call, HttpConnections& connections) {
  call.easy = EasyHandle(curl_easy_init(), curl_easy_cleanup);
  if (!call.easy) throw std::bad_alloc();
  call.reply = {};
  call.header_bytes = call.body_bytes = 0;
  call.is_too_large = call.is_refused = call.has_bad_length = false;
  call.sockets.clear();
  call.error_text[0] = '\0';
  call.connections = &connections;
  set_bounds(call);
  set_callbacks(call);
  set_request(call);
  call.is_stale = false;
}

}  // namespace sluice
