#include "producer/connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <stdexcept>
#include <utility>

#include <zmq.hpp>

#include "common/address.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/protocol/codec.h"

namespace sluice {

namespace {

constexpr int kMonitored = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                           ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED |
                           ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                           ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
constexpr std::int64_t kResendMs = 5'000;  // without an answer on a standing connection; doubles
// After a refused handshake, or a connection that libzmq ended because the peer broke the rules (a
// message over the bound): it does not try again by itself.
constexpr std::int64_t kReopenMs = 500;

// pitfalls.md, "libzmq": every peer has these.
void set_options(zmq::socket_t& socket) {
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kMessageBytesMax) + 65'536);
  socket.set(zmq::sockopt::rcvhwm, 1000);
  socket.set(zmq::sockopt::sndhwm, 64);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::immediate, true);
  socket.set(zmq::sockopt::reconnect_ivl, 100);
  socket.set(zmq::sockopt::reconnect_ivl_max, 2000);
  socket.set(zmq::sockopt::heartbeat_ivl, 2000);
  socket.set(zmq::sockopt::heartbeat_timeout, 6000);
  socket.set(zmq::sockopt::heartbeat_ttl, 10'000);
  socket.set(zmq::sockopt::handshake_ivl, 3000);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
}

// A request that stays open for as long as its jobs run is not sent again for silence.
bool may_take_long(const RequestBody& body) {
  const auto* submit = std::get_if<Submit>(&body);
  return std::holds_alternative<Wait>(body) || (submit != nullptr && submit->wait);
}

bool is_closing(const ReplyBody& body) {
  if (const auto* submitted = std::get_if<Submitted>(&body)) return !submitted->open;
  return !std::holds_alternative<Finished>(body);
}

}  // namespace

struct Connection::Impl {
  struct Open {
    std::string frame;
    std::optional<Wait> wait;   // asks, whenever it is sent, for what is left of its time
    std::int64_t until_ms = 0;  // when that is over
    bool is_sent = false;       // over the connection of now
    int sends = 0;              // over any
    bool may_take_long = false;
    std::int64_t resend_ms = 0;
    std::int64_t patience_ms = kResendMs;
  };

  explicit Impl(std::string broker) : address(std::move(broker)) { open_socket(); }

  ~Impl() { shut_socket(); }

  void open_socket() {
    socket = zmq::socket_t(context, zmq::socket_type::dealer);
    set_options(socket);
    const std::string endpoint = "inproc://monitor-" + std::to_string(++monitor_count);
    if (zmq_socket_monitor(socket.handle(), endpoint.c_str(), kMonitored) != 0)
      throw std::runtime_error(zmq_strerror(zmq_errno()));
    monitor = zmq::socket_t(context, zmq::socket_type::pair);
    monitor.set(zmq::sockopt::linger, 0);
    monitor.connect(endpoint);
    socket.connect(address);
    is_up = false;
    mark_unsent();
  }

  void shut_socket() {
    if (socket.handle() != nullptr) zmq_socket_monitor(socket.handle(), nullptr, 0);
    monitor.close();
    socket.close();
  }

  void reopen_if_due() {
    const std::int64_t now_ms = monotonic_ms();
    const auto is_due = [now_ms](std::int64_t at_ms) {
      return at_ms != 0 && now_ms >= at_ms;
    };
    if (!is_due(reopen_ms) && !is_due(revive_ms)) return;
    reopen_ms = revive_ms = 0;
    shut_socket();
    open_socket();
  }

  void mark_unsent() {
    for (auto& [number, request] : open)
      request.is_sent = false;
  }

  void poll(std::int64_t wait_ms) {
    const bool has_unsent = is_up && std::any_of(open.begin(), open.end(), [](const auto& e) {
                              return !e.second.is_sent;
                            });
    std::array<zmq::pollitem_t, 2> items{{
        {socket.handle(), 0, static_cast<short>(ZMQ_POLLIN | (has_unsent ? ZMQ_POLLOUT : 0)), 0},
        {monitor.handle(), 0, ZMQ_POLLIN, 0},
    }};
    try {
      zmq::poll(items.data(), items.size(), std::chrono::milliseconds(wait_ms));
    } catch (const zmq::error_t& error) {
      if (error.num() != EINTR) throw;
    }
  }

  void read_monitor() {
    zmq::message_t head;
    zmq::message_t peer;
    while (monitor.recv(head, zmq::recv_flags::dontwait)) {
      if (head.more() && !monitor.recv(peer, zmq::recv_flags::none)) return;
      std::uint16_t event = 0;
      std::uint32_t value = 0;
      if (head.size() < sizeof event + sizeof value) continue;
      std::memcpy(&event, head.data(), sizeof event);
      std::memcpy(&value, static_cast<const char*>(head.data()) + sizeof event, sizeof value);
      on_monitor(event, value);
    }
  }

  void on_monitor(std::uint16_t event, std::uint32_t value) {
    const std::int64_t now_ms = monotonic_ms();
    if (event == ZMQ_EVENT_CONNECTED || event == ZMQ_EVENT_CLOSED) {
      is_accepted = event == ZMQ_EVENT_CONNECTED;
      return;
    }
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
      is_up = was_up = true;
      revive_ms = 0;
      refusal.clear();
      (void)socket.get(zmq::sockopt::events);  // takes the old pipe away, if it is there still
      return mark_unsent();
    }
    if (event == ZMQ_EVENT_CONNECT_RETRIED) {
      revive_ms = 0;
      return;
    }
    if (event == ZMQ_EVENT_DISCONNECTED) {
      if (std::exchange(is_up, false)) down_since_ms = now_ms;
      revive_ms = now_ms + kReopenMs;
      return mark_unsent();
    }
    // The time for the handshake is over, and not a byte came.
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL && value == EAGAIN) return;
    refusal = event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
                  ? "it does not know this client's key"
                  : "what listens there does not speak the broker's protocol";
    if (event != ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL && reopen_ms == 0)
      reopen_ms = now_ms + kReopenMs;
  }

  // Never between two connections: libzmq tells of a lost one before it takes its pipe away, and
  // what is sent then goes down with it, as if it had been sent.
  void send_waiting() {
    if (!is_up) return;
    const std::int64_t now_ms = monotonic_ms();
    for (auto& [number, request] : open) {
      const bool is_due =
          !request.is_sent || (!request.may_take_long && now_ms >= request.resend_ms);
      if (!is_due) continue;
      if (request.wait) {
        request.wait->timeout_ms = std::max<std::int64_t>(0, request.until_ms - now_ms);
        request.frame = encode_request({make_req(number), *request.wait});
      }
      if (!socket.send(zmq::buffer(request.frame), zmq::send_flags::dontwait)) {
        request.resend_ms =
            now_ms + request.patience_ms;  // no room; poll() tells when the first has
        return;
      }
      if (request.is_sent) request.patience_ms *= 2;
      request.is_sent = true;
      ++request.sends;
      request.resend_ms = now_ms + request.patience_ms;
    }
  }

  // One message; nothing when none has come. `was_read` says that the caller may look for more.
  std::optional<Answer> read_answer(bool& was_read) {
    zmq::message_t message;
    was_read = socket.recv(message, zmq::recv_flags::dontwait).has_value();
    if (!was_read) return std::nullopt;
    if (message.more()) {  // the protocol has one frame
      while (message.more() && socket.recv(message, zmq::recv_flags::none)) {
      }
      return std::nullopt;
    }
    auto reply = decode_reply(message.to_string_view());
    if (!reply) return std::nullopt;
    const auto number = req_number(reply->req);
    const auto found = number ? open.find(*number) : open.end();
    if (found == open.end()) return std::nullopt;
    Answer answer{*number, std::move(reply->body), true, found->second.sends > 1};
    answer.is_closing = is_closing(answer.body);
    if (answer.is_closing) open.erase(found);
    return answer;
  }

  [[nodiscard]] std::int64_t next_timer_ms() const {
    std::int64_t timer_ms = INT64_MAX;
    for (const std::int64_t each : {reopen_ms, revive_ms})
      if (each != 0) timer_ms = std::min(timer_ms, each);
    for (const auto& [number, request] : open)
      if (request.is_sent && !request.may_take_long)
        timer_ms = std::min(timer_ms, request.resend_ms);
    return timer_ms;
  }

  std::string address;
  zmq::context_t context{1};
  zmq::socket_t socket;
  zmq::socket_t monitor;
  std::uint64_t monitor_count = 0;
  std::uint64_t last_number = 0;
  std::map<std::uint64_t, Open> open;  // ordered: resent in the order of their posting
  bool is_up = false;
  bool was_up = false;
  std::int64_t down_since_ms = monotonic_ms();
  std::int64_t reopen_ms = 0;  // 0 = not asked for
  std::int64_t revive_ms = 0;  // unless libzmq says by then that it tries again
  bool is_accepted = false;
  std::string refusal;
};

Connection::Connection(const std::string& address) {
  const auto refuse = [&](const std::string& why) {
    throw std::runtime_error("'" + address + "' is no address" + why + "; write tcp://HOST:PORT");
  };
  if (!is_address(address, AddressUse::connect)) refuse("");
  try {
    impl_ = std::make_unique<Impl>(address);
  } catch (const zmq::error_t& error) {
    refuse(std::string(" (") + error.what() + ")");
  }
}

Connection::~Connection() = default;

std::uint64_t Connection::post(const RequestBody& body) {
  const std::uint64_t number = impl_->last_number + 1;
  Impl::Open request;
  request.may_take_long = may_take_long(body);
  if (const auto* wait = std::get_if<Wait>(&body)) {
    request.wait = *wait;
    request.until_ms = after(monotonic_ms(), wait->timeout_ms);
  } else {
    request.frame = encode_request({make_req(number), body});
    if (request.frame.size() > kMessageBytesMax) return 0;
  }
  impl_->last_number = number;
  impl_->open.emplace(number, std::move(request));
  return number;
}

bool Connection::forget(std::uint64_t number) {
  const auto found = impl_->open.find(number);
  if (found == impl_->open.end()) return false;
  const bool was_sent = found->second.sends > 0;
  impl_->open.erase(found);
  return was_sent;
}

std::optional<Connection::Answer> Connection::receive(std::int64_t deadline_ms, Outage outage_max) {
  Impl& link = *impl_;
  const std::int64_t began_ms = monotonic_ms();
  for (;;) {
    link.read_monitor();
    link.reopen_if_due();
    link.send_waiting();
    bool was_read = true;
    while (was_read)
      if (auto answer = link.read_answer(was_read)) return answer;

    const std::int64_t now_ms = monotonic_ms();
    std::int64_t until_ms = deadline_ms;
    if (!link.is_up)
      until_ms = std::min(until_ms,
                          std::max(link.down_since_ms, began_ms) +
                              (link.was_up ? outage_max.later_ms : outage_max.at_first_ms));
    if (now_ms >= until_ms) return std::nullopt;
    const std::int64_t wake_ms = std::min(until_ms, link.next_timer_ms());
    link.poll(std::max<std::int64_t>(0, wake_ms - now_ms));
  }
}

bool Connection::is_up() const {
  return impl_->is_up;
}

bool Connection::was_up() const {
  return impl_->was_up;
}

bool Connection::is_accepted() const {
  return impl_->is_accepted;
}

const std::string& Connection::refusal() const {
  return impl_->refusal;
}

std::size_t Connection::open_count() const {
  return impl_->open.size();
}

}  // namespace sluice
