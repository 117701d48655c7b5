#include "broker/net/router.h"

#include <set>
#include <utility>

#include <zmq.hpp>

#include "common/limits.h"

namespace sluice {

namespace {

// Up to here a message that is too large is read, to be answered; ZeroMQ ends the connection of a
// greater one, without a word to either side.
constexpr std::int64_t kReadBytesMax = 2 * static_cast<std::int64_t>(kMessageBytesMax);
constexpr int kEventsQueueMax = 100'000;

void set_common_options(zmq::socket_t& socket, const std::string& address) {
  socket.set(zmq::sockopt::maxmsgsize, kReadBytesMax);
  socket.set(zmq::sockopt::linger, 1000);
  socket.set(zmq::sockopt::heartbeat_ivl, 2000);
  socket.set(zmq::sockopt::heartbeat_timeout, 6000);
  socket.set(zmq::sockopt::heartbeat_ttl, 10'000);
  socket.set(zmq::sockopt::handshake_ivl, 3000);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  socket.set(zmq::sockopt::ipv6, address.find('[') != std::string::npos);
  socket.set(zmq::sockopt::backlog, 1024);
}

Error bind_error(const std::string& address, const zmq::error_t& error) {
  std::string detail = std::string("cannot listen there: ") + error.what();
  const bool is_in_use = error.num() == EADDRINUSE;
  if (is_in_use) detail += "; another broker may be running; stop it or choose another port";
  if (error.num() == EINVAL || error.num() == EPROTONOSUPPORT)
    detail += "; an address looks like tcp://127.0.0.1:7711";
  if (error.num() == ENODEV || error.num() == EADDRNOTAVAIL)
    detail += "; this machine has no such address";
  return {is_in_use ? ErrorCode::retry_later : ErrorCode::bad_field, address, std::move(detail)};
}

}  // namespace

// ---------------------------------------------------------------- ROUTER

struct RouterSocket::State {
  zmq::socket_t socket;
  zmq::message_t routing_id, payload;

  // Reads the rest of a message that has more frames than the protocol knows.
  void drop_rest() {
    zmq::message_t rest;
    do {
      if (!socket.recv(rest, zmq::recv_flags::dontwait)) return;
    } while (rest.more());
  }
};

RouterSocket::RouterSocket(std::unique_ptr<State> state) : state_(std::move(state)) {}

RouterSocket::~RouterSocket() = default;

Result<std::unique_ptr<RouterSocket>> RouterSocket::bind(zmq::context_t& context,
                                                         const std::string& address,
                                                         int queue_max) {
  try {
    auto state = std::make_unique<State>();
    state->socket = zmq::socket_t(context, zmq::socket_type::router);
    set_common_options(state->socket, address);
    state->socket.set(zmq::sockopt::router_mandatory, true);
    state->socket.set(zmq::sockopt::router_handover, false);
    state->socket.set(zmq::sockopt::rcvhwm, queue_max);
    state->socket.set(zmq::sockopt::sndhwm, queue_max);
    state->socket.bind(address);
    return std::unique_ptr<RouterSocket>(new RouterSocket(std::move(state)));
  } catch (const zmq::error_t& error) {
    return tl::unexpected(bind_error(address, error));
  }
}

std::optional<RouterSocket::Incoming> RouterSocket::receive() {
  State& state = *state_;
  while (true) {
    if (!state.socket.recv(state.routing_id, zmq::recv_flags::dontwait)) return std::nullopt;
    Incoming incoming;
    if (!state.routing_id.more() || !state.socket.recv(state.payload, zmq::recv_flags::dontwait))
      continue;
    if (state.payload.size() == 0 && state.payload.more()) {
      incoming.peer.has_delimiter = true;
      (void)state.socket.recv(state.payload, zmq::recv_flags::dontwait);
    }
    incoming.peer.routing_id = state.routing_id.to_string();
    if (state.payload.more())
      state.drop_rest();
    else
      incoming.bytes = state.payload.to_string_view();
    return incoming;
  }
}

void RouterSocket::send(const Peer& peer, std::string_view bytes) {
  State& state = *state_;
  const auto flags = zmq::send_flags::sndmore | zmq::send_flags::dontwait;
  try {
    if (!state.socket.send(zmq::buffer(peer.routing_id), flags)) return;  // it does not read
    if (peer.has_delimiter) state.socket.send(zmq::const_buffer(), flags);
    state.socket.send(zmq::buffer(bytes), zmq::send_flags::dontwait);
  } catch (const zmq::error_t& error) {
    if (error.num() != EHOSTUNREACH) throw;  // it has left
  }
}

void* RouterSocket::handle() const {
  return state_->socket.handle();
}

std::string RouterSocket::endpoint() const {
  return state_->socket.get(zmq::sockopt::last_endpoint);
}

// ---------------------------------------------------------------- events

struct EventsSocket::State {
  zmq::socket_t socket;
  std::multiset<std::string> topics;
};

EventsSocket::EventsSocket(std::unique_ptr<State> state) : state_(std::move(state)) {}

EventsSocket::~EventsSocket() = default;

Result<std::unique_ptr<EventsSocket>> EventsSocket::bind(zmq::context_t& context,
                                                         const std::string& address) {
  try {
    auto state = std::make_unique<State>();
    state->socket = zmq::socket_t(context, zmq::socket_type::xpub);
    set_common_options(state->socket, address);
    state->socket.set(zmq::sockopt::linger, 0);
    state->socket.set(zmq::sockopt::sndhwm, kEventsQueueMax);
    state->socket.bind(address);
    return std::unique_ptr<EventsSocket>(new EventsSocket(std::move(state)));
  } catch (const zmq::error_t& error) {
    return tl::unexpected(bind_error(address, error));
  }
}

void EventsSocket::send(std::string_view topic, std::string_view bytes) {
  if (!state_->socket.send(zmq::buffer(topic),
                           zmq::send_flags::sndmore | zmq::send_flags::dontwait))
    return;
  state_->socket.send(zmq::buffer(bytes), zmq::send_flags::dontwait);
}

// XPUB reports the first subscriber and the last leaving of each topic: 1 or 0, then the prefix.
void EventsSocket::watch_subscribers() {
  zmq::message_t message;
  while (state_->socket.recv(message, zmq::recv_flags::dontwait)) {
    const std::string_view bytes = message.to_string_view();
    if (bytes.empty() || message.more()) continue;
    const std::string topic(bytes.substr(1));
    if (bytes.front() == 1) state_->topics.insert(topic);
    if (bytes.front() == 0)
      if (const auto found = state_->topics.find(topic); found != state_->topics.end())
        state_->topics.erase(found);
  }
}

bool EventsSocket::has_job_subscribers() const {
  for (const std::string& topic : state_->topics)
    if (topic.empty() || topic.starts_with("j")) return true;
  return false;
}

bool EventsSocket::has_log_subscribers() const {
  for (const std::string& topic : state_->topics)
    if (topic.starts_with("l")) return true;
  return false;
}

void* EventsSocket::handle() const {
  return state_->socket.handle();
}

std::string EventsSocket::endpoint() const {
  return state_->socket.get(zmq::sockopt::last_endpoint);
}

}  // namespace sluice
