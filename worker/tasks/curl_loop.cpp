// How a call goes: an easy handle per request, set up by configure(); libcurl tells which sockets
// to watch (watch()) and when to be called (set_timer()); poll() hands readiness to libcurl and
// reaps what finished. A redirect is a new request of the same call. A request to an origin that
// asked for a pause (429 with Retry-After) waits until that is over, one that finds as many of its
// group under way as there may be until one of them has ended.
//
// libcurl calls back from inside its own functions, where no handle may be added or removed; so
// callbacks only note what they saw, and poll() acts.
#include "worker/tasks/curl_loop.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include <curl/curl.h>

#include "common/clock.h"
#include "worker/runtime/wake.h"
#include "worker/tasks/ascii.h"
#include "worker/tasks/retry_after.h"
#include "worker/tasks/target_pauses.h"
#include "worker/tasks/target_room.h"

namespace sluice {

namespace {

constexpr std::size_t kHeaderBytesMax = 64u << 10;
constexpr std::size_t kErrorBodyBytesMax = 16u << 10;    // kept of an answer that is no success
constexpr std::size_t kRedirectBodyBytesMax = 1u << 20;  // may come, and is thrown away
constexpr int kTooManyRequests = 429;
constexpr std::int64_t kIdleConnectionsMax = 256;  // kept open for later calls

using Easy = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using HeaderList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

// Of all calls of a loop.
struct Connections {
  std::int64_t open = 0;
  std::int64_t used = 0;    // by a call each, which has one or will have
  std::int64_t ending = 0;  // of these, by calls that have their answer but are not over

  // A multiplexed one counts as several that are used, so there may be more.
  [[nodiscard]] std::int64_t idle() const { return open - used; }

  // By their ends, which is all that libcurl says of the one that a request is about to use.
  std::unordered_map<std::string, int> socket_of;
  std::unordered_map<int, std::string> ends_of;

  void remember(int fd, const std::string& ends) {
    socket_of[ends] = fd;
    ends_of[fd] = ends;
  }

  void forget(int fd) {
    if (const auto node = ends_of.extract(fd)) socket_of.erase(node.mapped());
  }
};

struct Call {
  CallId id = 0;
  HttpRequest request;
  std::int64_t deadline_mono_ms = kNever;
  bool was_redirected = false;
  std::string room;  // its place there while it is under way or in line; empty without one
  Easy easy{nullptr, curl_easy_cleanup};
  HeaderList headers{nullptr, curl_slist_free_all};
  std::array<char, CURL_ERROR_SIZE> error_text{};
  Connections* connections = nullptr;
  // What the callbacks saw of the current request.
  HttpReply reply;
  std::size_t header_bytes = 0;
  std::size_t body_bytes = 0;  // that came, kept or not
  bool is_too_large = false;
  bool is_refused = false;
  std::vector<int> sockets;  // opened for it: none when it uses a connection again
  std::string ends;          // of its connection
  bool is_stale = false;     // that connection is of no use
  bool is_ending = false;
  bool has_bad_length = false;
};

int status_of(CURL* easy) {
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  return static_cast<int>(status);
}

struct BodyBounds {
  std::size_t kept_bytes_max = 0;
  std::size_t body_bytes_max = 0;  // beyond it the transfer is given up
};

BodyBounds bounds_of(const HttpRequest& request, int status) {
  const std::size_t whole = request.response_bytes_max;
  if (status < 300 || is_expected(status, request.expect)) return {whole, whole};
  const std::size_t kept = std::min(whole, kErrorBodyBytesMax);
  if (status >= 400) return {kept, kept};
  return {kept, kRedirectBodyBytesMax};  // libcurl tells where to of a whole answer only
}

std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* user) {
  Call& call = *static_cast<Call*>(user);
  const auto [kept_bytes_max, body_bytes_max] = bounds_of(call.request, status_of(call.easy.get()));
  const std::size_t room = kept_bytes_max - std::min(kept_bytes_max, call.reply.body.size());
  call.reply.body.append(bytes, std::min(size, room));
  call.body_bytes += size;
  if (call.body_bytes <= body_bytes_max) return size;
  call.is_too_large = true;
  return 0;
}

// One that can only be a length, and the same as was said before. Who took any other might take a
// part of the body for the whole, or another's (RFC 9112, 6.3).
bool is_length(const Call& call, std::string_view value) {
  constexpr std::size_t kDigitsMax = 18;
  const std::string earlier = call.reply.header("content-length");
  return !value.empty() && value.size() <= kDigitsMax &&
         value.find_first_not_of("0123456789") == std::string_view::npos &&
         (earlier.empty() || earlier == value);
}

// An answer whose head has come, and with it most likely the rest.
bool is_short(const HttpReply& reply, int status) {
  constexpr std::size_t kDigitsMax = 4;
  const std::size_t digits = reply.header("content-length").size();
  return status == 204 || status == 304 || (digits > 0 && digits <= kDigitsMax);
}

// After a head. libcurl's own bound of what is kept open counts those in use: when there are more,
// no call finds one. What is said here counts when the call is over.
void keep_few_idle(Call& call) {
  Connections& connections = *call.connections;
  const int status = status_of(call.easy.get());
  if (status < 200) return;
  if (connections.idle() + connections.ending >= kIdleConnectionsMax)
    curl_easy_setopt(call.easy.get(), CURLOPT_FORBID_REUSE, 1L);
  if (!call.is_ending && is_short(call.reply, status)) {
    call.is_ending = true;
    ++connections.ending;
  }
}

std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* user) {
  Call& call = *static_cast<Call*>(user);
  call.header_bytes += size;
  if (call.header_bytes > kHeaderBytesMax) {
    call.is_too_large = true;
    return 0;
  }
  std::string_view line(bytes, size);
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n' || line.back() == ' '))
    line.remove_suffix(1);
  if (line.empty()) keep_few_idle(call);
  if (line.starts_with("HTTP/")) call.reply.headers.clear();  // a 100 came before
  if (line.starts_with("HTTP/2")) call.connections->socket_of.erase(call.ends);  // input is usual
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || line.starts_with("HTTP/")) return size;
  std::string_view value = line.substr(colon + 1);
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  const std::string_view name = line.substr(0, colon);
  if (equals_ignoring_case(name, "content-length") && !is_length(call, value)) {
    call.has_bad_length = true;
    return 0;
  }
  call.reply.headers.push_back({std::string(name), std::string(value)});
  return size;
}

curl_socket_t open_socket(void* user, curlsocktype, curl_sockaddr* address) {
  Call& call = *static_cast<Call*>(user);
  if (!call.request.rules->allows(call.request.target.host, &address->addr)) {
    // Of a host with several addresses one that is open to it decides.
    call.is_refused = call.sockets.empty();
    return CURL_SOCKET_BAD;
  }
  call.is_refused = false;
  const int fd = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd < 0) return fd;
  ++call.connections->open;
  call.sockets.push_back(fd);
  return fd;
}

int close_socket(void* user, curl_socket_t fd) {
  Connections& connections = *static_cast<Connections*>(user);
  --connections.open;
  connections.forget(fd);
  return ::close(fd);
}

bool has_local_port(int fd, int port) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
  in_port_t bound = 0;
  if (address.ss_family == AF_INET)
    bound = reinterpret_cast<const sockaddr_in&>(address).sin_port;
  else if (address.ss_family == AF_INET6)
    bound = reinterpret_cast<const sockaddr_in6&>(address).sin6_port;
  return ntohs(bound) == port;
}

// Or its end: whatever came while nothing was asked is not the answer to what is asked next, and
// this libcurl would take it for that.
bool has_input(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

// Also before a request on a connection that another task opened under its own rules.
int before_request(void* user, char* remote, char*, int remote_port, int local_port) {
  Call& call = *static_cast<Call*>(user);
  Connections& connections = *call.connections;
  if (!call.request.rules->allows(call.request.target.host, std::string(remote))) {
    call.is_refused = true;
    return CURL_PREREQFUNC_ABORT;
  }
  call.ends = std::to_string(local_port) + ' ' + remote + ' ' + std::to_string(remote_port);
  if (call.sockets.empty()) {
    const auto used = connections.socket_of.find(call.ends);
    call.is_stale = used != connections.socket_of.end() && has_input(used->second);
    return call.is_stale ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
  }
  for (const int fd : call.sockets)
    if (call.sockets.size() == 1 || has_local_port(fd, local_port))
      connections.remember(fd, call.ends);
  return CURL_PREREQFUNC_OK;
}

template <typename Value>
void set(CURL* easy, CURLoption option, Value value) {
  if (curl_easy_setopt(easy, option, value) != CURLE_OK)
    throw std::runtime_error("libcurl refuses option " + std::to_string(option));
}

void set_bounds(Call& call) {
  CURL* easy = call.easy.get();
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_QUICK_EXIT, 1L);  // do not wait for a name lookup when a call is cancelled
  set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
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

void set_callbacks(Call& call) {
  CURL* easy = call.easy.get();
  set(easy, CURLOPT_PRIVATE, static_cast<void*>(&call));
  set(easy, CURLOPT_ERRORBUFFER, call.error_text.data());
  set(easy, CURLOPT_WRITEFUNCTION, on_body);
  set(easy, CURLOPT_WRITEDATA, static_cast<void*>(&call));
  set(easy, CURLOPT_HEADERFUNCTION, on_header);
  set(easy, CURLOPT_HEADERDATA, static_cast<void*>(&call));
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
  list.reset(longer);
}

// Also without a body: a server may answer 411 to a request of these that names no length.
bool has_length(std::string_view method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

void set_request(Call& call) {
  CURL* easy = call.easy.get();
  const HttpRequest& request = call.request;
  set(easy, CURLOPT_URL, request.target.url.c_str());
  // libcurl would look at every connection that is in use, for each call anew. (One of TLS may be
  // multiplexed, and so be used by one more.)
  const bool is_plain = request.target.origin.starts_with("http:");
  if (call.is_stale || (is_plain && call.connections->idle() <= 0))
    set(easy, CURLOPT_FRESH_CONNECT, 1L);
  if (request.body) {
    set(easy, CURLOPT_POSTFIELDS, request.body->data());
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body->size()));
  } else if (has_length(request.method)) {
    set(easy, CURLOPT_POSTFIELDS, "");
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t{0});
  }
  if (request.method == "HEAD") set(easy, CURLOPT_NOBODY, 1L);
  set(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  call.headers.reset();
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

struct Failure {
  const char* code;
  bool retryable;
};

// libcurl says the same of a line of the head that is longer than it holds.
bool has_endless_header(const Call& call, CURLcode code) {
  long request_bytes = 0;
  curl_easy_getinfo(call.easy.get(), CURLINFO_REQUEST_SIZE, &request_bytes);
  return code == CURLE_OUT_OF_MEMORY && request_bytes > 0;
}

// Nothing was wrong with the connection: what came over it was (chunks without a size).
bool is_malformed(const Call& call, CURLcode code) {
  long error = 0;
  curl_easy_getinfo(call.easy.get(), CURLINFO_OS_ERRNO, &error);
  return code == CURLE_RECV_ERROR && error == 0;
}

Failure failure_of(const Call& call, CURLcode code) {
  if (is_malformed(call, code)) return {"bad_response", true};
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return {"dns_failed", true};
    case CURLE_COULDNT_CONNECT:
      return {"connect_failed", true};
    case CURLE_OPERATION_TIMEDOUT:
      return {"timeout", true};
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return {"tls_failed", true};
    case CURLE_PARTIAL_FILE:
      return {"response_incomplete", true};
    case CURLE_GOT_NOTHING:
      return {"no_response", true};
    case CURLE_URL_MALFORMAT:
    case CURLE_LOGIN_DENIED:
      return {"bad_url", false};
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
      return {"connection_lost", true};
    default:
      return {"bad_response", true};
  }
}

void judge(Call& call, CURLcode code) {
  HttpReply& reply = call.reply;
  reply.status = status_of(call.easy.get());
  reply.url = call.request.target.url;
  if (code == CURLE_OK) return;
  if (call.is_refused) {
    reply.error_code = "target_refused";
    reply.error = call.request.target.host +
                  " is not a public address; the task's setting `allow` opens others";
  } else if (call.is_too_large || has_endless_header(call, code)) {
    reply.error_code = "response_too_large";
    const std::size_t most = call.body_bytes > 0
                                 ? bounds_of(call.request, reply.status).body_bytes_max
                                 : kHeaderBytesMax;
    reply.error = "the answer is larger than " + std::to_string(most) + " bytes";
  } else if (call.has_bad_length) {
    reply.error_code = "bad_response";
    reply.error = "the answer's Content-Length is no length, or there are several";
    reply.retryable = true;
  } else {
    const Failure failure = failure_of(call, code);
    reply.error_code = failure.code;
    reply.retryable = failure.retryable;
    reply.error = call.error_text[0] != '\0' ? call.error_text.data() : curl_easy_strerror(code);
  }
}

}  // namespace

struct CurlLoop::State {
  int epoll_fd = -1;
  int timer_fd = -1;  // libcurl's
  int pause_fd = -1;  // when the next pause is over, or the time of one in line
  WakeFd wake;
  bool is_timer_due = false;  // it is readable, or will be at once
  CURLM* multi = nullptr;
  Connections connections;
  CallId last_id = 0;
  std::unordered_map<CallId, std::unique_ptr<Call>> calls;
  std::vector<FinishedCall> finished;  // what ended before it began
  TargetPauses pauses;
  bool has_grown = false;  // one of them: the time of a call that waits may be over before it ends
  std::map<CallId, std::unique_ptr<Call>> waiting;  // for the end of one, in their order
  TargetRoom room;
  std::unordered_map<CallId, std::unique_ptr<Call>> in_line;  // for room
  std::set<std::pair<std::int64_t, CallId>> line_ends;        // their deadlines
  std::vector<std::string> freed;                             // places that somebody left

  State() {
    static const CURLcode is_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
    timer_fd = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    pause_fd = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    multi = curl_multi_init();
    if (is_ready != CURLE_OK || epoll_fd < 0 || timer_fd < 0 || pause_fd < 0 || multi == nullptr)
      throw std::runtime_error("cannot set up the loop of HTTP calls");
    watch_fd(timer_fd, EPOLLIN);
    watch_fd(pause_fd, EPOLLIN);
    watch_fd(wake.fd(), EPOLLIN);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, &State::watch);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, &State::set_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 1'000'000L);  // keep_few_idle() says how many
  }

  State(const State&) = delete;
  State& operator=(const State&) = delete;

  ~State() {
    for (const auto& [id, call] : calls)
      remove(*call);
    calls.clear();
    curl_multi_cleanup(multi);
    ::close(pause_fd);
    ::close(timer_fd);
    ::close(epoll_fd);
  }

  void watch_fd(int fd, std::uint32_t events, bool is_known = false) const {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    const int first = is_known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    const int other = is_known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (::epoll_ctl(epoll_fd, first, fd, &event) != 0) ::epoll_ctl(epoll_fd, other, fd, &event);
  }

  static int watch(CURL*, curl_socket_t fd, int what, void* user, void* known) {
    State& state = *static_cast<State*>(user);
    if (what == CURL_POLL_REMOVE) {
      epoll_event none{};
      ::epoll_ctl(state.epoll_fd, EPOLL_CTL_DEL, fd, &none);
      return 0;
    }
    std::uint32_t events = 0;
    if ((what & CURL_POLL_IN) != 0) events |= EPOLLIN;
    if ((what & CURL_POLL_OUT) != 0) events |= EPOLLOUT;
    state.watch_fd(fd, events, known != nullptr);
    if (known == nullptr) curl_multi_assign(state.multi, fd, &state);  // until it is removed
    return 0;
  }

  // A negative delay disarms it.
  static void arm(int fd, std::int64_t delay_ms) {
    itimerspec spec{};
    if (delay_ms > 0) {
      spec.it_value.tv_sec = delay_ms / 1000;
      spec.it_value.tv_nsec = (delay_ms % 1000) * 1'000'000;
    } else if (delay_ms == 0) {
      spec.it_value.tv_nsec = 1;  // at once; 0 would disarm
    }
    ::timerfd_settime(fd, 0, &spec, nullptr);
  }

  static int set_timer(CURLM*, long delay_ms, void* user) {
    State& state = *static_cast<State*>(user);
    const bool is_due = delay_ms == 0;
    if (!is_due || !state.is_timer_due) arm(state.timer_fd, delay_ms);
    state.is_timer_due = is_due;
    return 0;
  }

  void configure_and_add(Call& call) {
    call.easy.reset(curl_easy_init());
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
    if (curl_multi_add_handle(multi, call.easy.get()) != CURLM_OK)
      throw std::runtime_error("libcurl does not take the call");
    ++connections.used;
  }

  void remove(Call& call) {
    curl_multi_remove_handle(multi, call.easy.get());
    --connections.used;
    if (std::exchange(call.is_ending, false)) --connections.ending;
  }

  // For now, and without a request.
  HttpReply& fail_call(const Call& call, std::string code, std::string error) {
    HttpReply reply;
    reply.url = call.request.target.url;
    reply.error_code = std::move(code);
    reply.error = std::move(error);
    reply.retryable = true;
    finished.push_back({call.id, std::move(reply)});
    wake.set();
    return finished.back().reply;
  }

  // What this answer asks of everybody.
  void note_pause(const Call& call) {
    if (call.reply.status != kTooManyRequests) return;
    const Now now = clock_now();
    const auto asked_ms = parse_retry_after(call.reply.header("retry-after"), now.wall_ms);
    if (!pauses.note(call.request.target.origin, asked_ms.value_or(0), now.mono_ms)) return;
    arm_pause(now.mono_ms);
    has_grown = true;
  }

  void arm_pause(std::int64_t now_ms) const {
    const std::int64_t line_end_ms = line_ends.empty() ? kNever : line_ends.begin()->first;
    const std::int64_t next_ms = std::min(pauses.next_end_ms(), line_end_ms);
    arm(pause_fd, next_ms == kNever ? -1 : std::max<std::int64_t>(next_ms - now_ms, 0));
  }

  // Lets a call wait for the end of its origin's pause, or fails it when its own time is over
  // before. False when it may begin.
  bool hold_back(std::unique_ptr<Call>& call) {
    if (call->request.is_urgent) return false;
    const auto until_ms = pauses.until_ms(call->request.target.origin);
    if (!until_ms) return false;
    // A redirected one has its own deadline already.
    if (std::min(call->request.deadline_mono_ms, call->deadline_mono_ms) > *until_ms) {
      const CallId id = call->id;
      waiting[id] = std::move(call);
      return true;
    }
    const std::int64_t left_s = (*until_ms - clock_now().mono_ms + 999) / 1000;
    const std::string seconds = std::to_string(std::max<std::int64_t>(left_s, 1));
    fail_call(*call,
              "target_paused",
              "not called: it asked (429) for a pause, of which " + seconds + " s are left")
        .headers.push_back({"Retry-After", seconds});
    return true;
  }

  void end_pauses() {
    const std::int64_t now_ms = clock_now().mono_ms;
    pauses.end(now_ms);
    fail_late_in_line(now_ms);
    arm_pause(now_ms);
    begin_waiting();
  }

  // Lets a call wait for room among those of its group. False when it may begin, and is counted.
  bool stand_in_line(std::unique_ptr<Call>& call) {
    const HttpRequest& request = call->request;
    if (request.calls_per_host == 0 || request.is_urgent) return false;
    call->room = request.group + ' ' + request.target.origin;
    if (room.enter(call->room, request.calls_per_host)) return false;
    const CallId id = call->id;
    room.wait(call->room, id);
    if (line_end_of(*call) != kNever) {
      line_ends.insert({line_end_of(*call), id});
      arm_pause(clock_now().mono_ms);
    }
    in_line[id] = std::move(call);
    return true;
  }

  // A redirected one has its own deadline already.
  static std::int64_t line_end_of(const Call& call) {
    return std::min(call.request.deadline_mono_ms, call.deadline_mono_ms);
  }

  // Null when it is in no line.
  std::unique_ptr<Call> out_of_line(CallId id) {
    auto node = in_line.extract(id);
    if (node.empty()) return nullptr;
    line_ends.erase({line_end_of(*node.mapped()), id});
    return std::move(node.mapped());
  }

  void fail_late_in_line(std::int64_t now_ms) {
    while (!line_ends.empty() && line_ends.begin()->first <= now_ms) {
      const std::unique_ptr<Call> call = out_of_line(line_ends.begin()->second);
      room.forget(call->room, call->id);
      fail_call(*call,
                "no_room",
                "not called: as many calls to its host as there may be at once (" +
                    std::to_string(call->request.calls_per_host) + ") were under way all the time");
    }
  }

  void leave_room(Call& call) {
    if (call.room.empty()) return;
    room.leave(call.room);
    freed.push_back(std::exchange(call.room, {}));
  }

  // Not at once where one ends: whoever begins may end there and then, and so on.
  void fill_room() {
    while (!freed.empty()) {
      const std::string place = std::move(freed.back());
      freed.pop_back();
      while (const auto id = room.next(place))
        begin(out_of_line(*id));
    }
  }

  // Those whose pause goes on wait again.
  void begin_waiting() {
    for (auto& [id, call] : std::exchange(waiting, {}))
      begin(std::move(call));
  }

  void begin(std::unique_ptr<Call> call) {
    if (hold_back(call) || stand_in_line(call)) return;
    if (call->deadline_mono_ms == kNever) {
      const std::int64_t timeout_ms = call->request.timeout_ms;
      call->deadline_mono_ms =
          std::min(call->request.deadline_mono_ms,
                   timeout_ms > 0 ? after(clock_now().mono_ms, timeout_ms) : kNever);
    }
    send(std::move(call));
  }

  void send(std::unique_ptr<Call> call) {
    try {
      configure_and_add(*call);
    } catch (const std::exception& exception) {
      fail_call(*call, "http_setup_failed", exception.what());
      leave_room(*call);
      return;
    }
    const CallId id = call->id;
    calls[id] = std::move(call);
  }

  // The call goes on elsewhere, or nothing when the answer is the final one.
  std::optional<Target> next_target(Call& call) const {
    char* location = nullptr;
    curl_easy_getinfo(call.easy.get(), CURLINFO_REDIRECT_URL, &location);
    HttpReply& reply = call.reply;
    const bool follows = call.request.redirects_max > 0 || call.was_redirected;
    if (!reply.error_code.empty() || location == nullptr || !follows) return std::nullopt;
    auto target = parse_target(location);
    if (call.request.redirects_max == 0) {
      reply.error_code = "too_many_redirects";
      reply.error = "the target redirects once more than is followed";
    } else if (!target) {
      reply.error_code = "target_refused";
      reply.error = "the target redirects to something that is no plain http or https URL";
    } else {
      return std::move(*target);
    }
    return std::nullopt;
  }

  void ended(std::unique_ptr<Call> call, CURLcode code) {
    if (call->is_stale) {  // nothing was sent yet
      remove(*call);
      send(std::move(call));
      return;
    }
    judge(*call, code);
    note_pause(*call);
    auto target = next_target(*call);
    remove(*call);
    leave_room(*call);
    if (!target) {
      finished.push_back({call->id, std::move(call->reply)});
      return;
    }
    call->was_redirected = true;
    call->request = redirected(std::move(call->request), call->reply.status, std::move(*target));
    begin(std::move(call));
  }

  // All messages first: libcurl looks for those of a call that is removed among all that are left.
  void reap() {
    std::vector<std::pair<CallId, CURLcode>> done;
    for (int left = 0; const CURLMsg* message = curl_multi_info_read(multi, &left);) {
      if (message->msg != CURLMSG_DONE) continue;
      void* user = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
      done.emplace_back(static_cast<Call*>(user)->id, message->data.result);
    }
    for (const auto& [id, code] : done)
      ended(std::move(calls.extract(id).mapped()), code);
    if (std::exchange(has_grown, false)) begin_waiting();
    fill_room();
  }

  void step(int fd, std::uint32_t events) {
    int running = 0;
    if (fd == timer_fd) {
      std::uint64_t expirations = 0;
      if (::read(timer_fd, &expirations, sizeof expirations) <= 0) return;
      is_timer_due = false;
      curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
    } else if (fd == pause_fd) {
      std::uint64_t expirations = 0;
      if (::read(pause_fd, &expirations, sizeof expirations) > 0) end_pauses();
    } else if (fd == wake.fd()) {
      wake.clear();
    } else {
      int mask = 0;
      if ((events & (EPOLLIN | EPOLLHUP)) != 0) mask |= CURL_CSELECT_IN;
      if ((events & EPOLLOUT) != 0) mask |= CURL_CSELECT_OUT;
      if ((events & EPOLLERR) != 0) mask |= CURL_CSELECT_ERR;
      curl_multi_socket_action(multi, fd, mask, &running);
    }
  }
};

bool is_expected(int status, const std::vector<std::string>& expect) {
  const std::string text = std::to_string(status);
  return std::any_of(expect.begin(), expect.end(), [&](const std::string& entry) {
    return entry == text || (entry.ends_with("xx") && entry.front() == text.front());
  });
}

CurlLoop::CurlLoop() : state_(std::make_unique<State>()) {}

CurlLoop::~CurlLoop() = default;

CallId CurlLoop::start(HttpRequest request) {
  auto call = std::make_unique<Call>();
  const CallId id = call->id = ++state_->last_id;
  call->request = std::move(request);
  state_->begin(std::move(call));
  state_->fill_room();
  return id;
}

void CurlLoop::cancel(CallId id) {
  const auto it = state_->calls.find(id);
  if (it != state_->calls.end()) {
    state_->remove(*it->second);
    state_->leave_room(*it->second);
    state_->calls.erase(it);
  } else if (const auto call = state_->out_of_line(id)) {
    state_->room.forget(call->room, id);
  }
  state_->fill_room();
  state_->waiting.erase(id);
  std::erase_if(state_->finished, [id](const FinishedCall& call) { return call.id == id; });
}

int CurlLoop::fd() const {
  return state_->epoll_fd;
}

void CurlLoop::wake() {
  state_->wake.set();
}

std::vector<FinishedCall> CurlLoop::poll() {
  std::array<epoll_event, 256> ready{};
  const int count = ::epoll_wait(state_->epoll_fd, ready.data(), static_cast<int>(ready.size()), 0);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = ready[static_cast<std::size_t>(i)];
    state_->step(event.data.fd, event.events);
  }
  state_->reap();
  return std::exchange(state_->finished, {});
}

std::size_t CurlLoop::call_count() const {
  return state_->calls.size() + state_->waiting.size() + state_->in_line.size();
}

}  // namespace sluice
