// How a call goes: an easy handle per request, made by set_up(); libcurl tells which sockets to
// watch (watch()) and when to be called (set_timer()); poll() hands readiness to libcurl and reaps
// what finished. A redirect is a new request of the same call. What may not begin yet waits
// (HttpWaits).
//
// libcurl calls back from inside its own functions, where no handle may be added or removed; so
// callbacks only note what they saw, and poll() acts.
#include "worker/tasks/curl_loop.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <unordered_map>

#include <curl/curl.h>

#include "common/clock.h"
#include "worker/runtime/wake.h"
#include "worker/tasks/http_answer.h"
#include "worker/tasks/http_call.h"
#include "worker/tasks/http_waits.h"

namespace sluice {

struct CurlLoop::State {
  int epoll_fd = -1;
  int timer_fd = -1;  // libcurl's
  int waits_fd = -1;  // of those that wait
  WakeFd wake;
  bool is_timer_due = false;  // it is readable, or will be at once
  std::int64_t waits_end_ms = kNever;
  CURLM* multi = nullptr;
  HttpConnections connections;
  CallId last_id = 0;
  std::unordered_map<CallId, std::unique_ptr<HttpCall>> calls;
  HttpWaits waits;
  bool has_longer_pause = false;
  std::vector<FinishedCall> finished;

  State() {
    static const CURLcode is_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
    timer_fd = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    waits_fd = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    multi = curl_multi_init();
    if (is_ready != CURLE_OK || epoll_fd < 0 || timer_fd < 0 || waits_fd < 0 || multi == nullptr)
      throw std::runtime_error("cannot set up the loop of HTTP calls");
    watch_fd(timer_fd, EPOLLIN);
    watch_fd(waits_fd, EPOLLIN);
    watch_fd(wake.fd(), EPOLLIN);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, &State::watch);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, &State::set_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 1'000'000L);  // HttpConnections bounds them
  }

  State(const State&) = delete;
  State& operator=(const State&) = delete;

  ~State() {
    for (const auto& [id, call] : calls)
      remove(*call);
    calls.clear();
    curl_multi_cleanup(multi);
    ::close(waits_fd);
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
    state.connections.set_used(fd, what != CURL_POLL_REMOVE);  // an idle one is not watched
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

  void add(HttpCall& call) {
    set_up(call, connections);
    if (curl_multi_add_handle(multi, call.easy.get()) != CURLM_OK)
      throw std::runtime_error("libcurl does not take the call");
    connections.call_began();
  }

  void remove(HttpCall& call) {
    curl_multi_remove_handle(multi, call.easy.get());
    connections.call_ended();
  }

  void begin(std::unique_ptr<HttpCall> call) {
    const std::int64_t now_ms = clock_now().mono_ms;
    switch (waits.admit(call, now_ms)) {
      case HttpWaits::Admission::waits:
        return;
      case HttpWaits::Admission::refused:
        finish(*call);
        return;
      case HttpWaits::Admission::begins:
        break;
    }
    if (call->deadline_mono_ms == kNever) {
      const std::int64_t timeout_ms = call->request.timeout_ms;
      call->deadline_mono_ms = std::min(call->request.deadline_mono_ms,
                                        timeout_ms > 0 ? after(now_ms, timeout_ms) : kNever);
    }
    send(std::move(call));
  }

  void send(std::unique_ptr<HttpCall> call) {
    try {
      add(*call);
    } catch (const std::exception& exception) {
      call->reply = {};
      call->reply.url = call->request.target.url;
      call->reply.error_code = "http_setup_failed";
      call->reply.error = exception.what();
      call->reply.retryable = true;
      finish(*call);
      waits.leave(*call);
      return;
    }
    const CallId id = call->id;
    calls[id] = std::move(call);
  }

  // Perhaps outside of poll(), which takes it.
  void finish(HttpCall& call) {
    finished.push_back({call.id, std::move(call.reply)});
    wake.set();
  }

  // Not at once where a call ends: whoever begins may end there and then, and so on.
  void begin_those_with_room() {
    while (std::unique_ptr<HttpCall> call = waits.next_with_room())
      begin(std::move(call));
  }

  // Those whose pause goes on wait again.
  void begin_paused() {
    for (std::unique_ptr<HttpCall>& call : waits.take_paused())
      begin(std::move(call));
  }

  void end_waits() {
    for (const std::unique_ptr<HttpCall>& call : waits.end(clock_now().mono_ms))
      finish(*call);
    begin_paused();
  }

  void arm_waits() {
    const std::int64_t next_ms = waits.next_end_ms();
    if (std::exchange(waits_end_ms, next_ms) == next_ms) return;
    const std::int64_t now_ms = clock_now().mono_ms;
    arm(waits_fd, next_ms == kNever ? -1 : std::max<std::int64_t>(next_ms - now_ms, 0));
  }

  // The call goes on elsewhere, or nothing when the answer is the final one.
  std::optional<Target> next_target(HttpCall& call) const {
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

  void ended(std::unique_ptr<HttpCall> call, CURLcode code) {
    if (call->is_stale) {  // nothing was sent yet
      remove(*call);
      send(std::move(call));
      return;
    }
    judge(*call, code);
    has_longer_pause |= waits.note_pause(*call);
    auto target = next_target(*call);
    remove(*call);
    waits.leave(*call);
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
      done.emplace_back(static_cast<HttpCall*>(user)->id, message->data.result);
    }
    for (const auto& [id, code] : done)
      ended(std::move(calls.extract(id).mapped()), code);
    if (std::exchange(has_longer_pause, false)) begin_paused();
    begin_those_with_room();
  }

  void step(int fd, std::uint32_t events) {
    int running = 0;
    if (fd == timer_fd) {
      std::uint64_t expirations = 0;
      if (::read(timer_fd, &expirations, sizeof expirations) <= 0) return;
      is_timer_due = false;
      curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
    } else if (fd == waits_fd) {
      std::uint64_t expirations = 0;
      if (::read(waits_fd, &expirations, sizeof expirations) > 0) end_waits();
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

CurlLoop::CurlLoop() : state_(std::make_unique<State>()) {}

CurlLoop::~CurlLoop() = default;

CallId CurlLoop::start(HttpRequest request) {
  auto call = std::make_unique<HttpCall>();
  const CallId id = call->id = ++state_->last_id;
  call->request = std::move(request);
  state_->begin(std::move(call));
  state_->begin_those_with_room();
  state_->arm_waits();
  return id;
}

void CurlLoop::cancel(CallId id) {
  if (const auto call = state_->calls.extract(id)) {
    state_->remove(*call.mapped());
    state_->waits.leave(*call.mapped());
  }
  state_->waits.cancel(id);
  state_->begin_those_with_room();
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
  state_->arm_waits();
  return std::exchange(state_->finished, {});
}

std::size_t CurlLoop::call_count() const {
  return state_->calls.size() + state_->waits.count();
}

}  // namespace sluice
