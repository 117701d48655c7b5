#include "producer/event_stream.h"

#include <array>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

#include <zmq.hpp>

#include "common/clock.h"
#include "common/limits.h"
#include "common/protocol/codec.h"
#include "producer/connection.h"

namespace sluice {

struct EventStream::Impl {
  zmq::context_t context{1};
  zmq::socket_t socket{context, zmq::socket_type::sub};
  zmq::socket_t monitor{context, zmq::socket_type::pair};

  bool is_up = false;
  bool is_accepted = false;
  std::uint64_t lost_count = 0;

  void read_monitor() {
    zmq::message_t head;
    zmq::message_t peer;
    while (monitor.recv(head, zmq::recv_flags::dontwait)) {
      if (head.more() && !monitor.recv(peer, zmq::recv_flags::none)) return;
      std::uint16_t event = 0;
      if (head.size() < sizeof event) continue;
      std::memcpy(&event, head.data(), sizeof event);
      if (event == ZMQ_EVENT_CONNECTED || event == ZMQ_EVENT_CLOSED)
        is_accepted = event == ZMQ_EVENT_CONNECTED;
      else if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
        come_up();
      else if (std::exchange(is_up, false))
        ++lost_count;
    }
  }

  // What is subscribed to goes over a new connection only once this thread has entered the socket:
  // the monitor alone may have been asked so far.
  void come_up() {
    is_up = true;
    (void)socket.get(zmq::sockopt::events);
  }

  ~Impl() {
    if (socket.handle() != nullptr) zmq_socket_monitor(socket.handle(), nullptr, 0);
  }
};

EventStream::EventStream(const std::string& address, const std::vector<std::string>& topics)
    : impl_(std::make_unique<Impl>()) {
  try {
    zmq::socket_t& socket = impl_->socket;
    socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kMessageBytesMax));
    socket.set(zmq::sockopt::rcvhwm, 10'000);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::reconnect_ivl, 100);
    socket.set(zmq::sockopt::reconnect_ivl_max, 2000);
    socket.set(zmq::sockopt::heartbeat_ivl, 2000);
    socket.set(zmq::sockopt::heartbeat_timeout, 6000);
    socket.set(zmq::sockopt::tcp_keepalive, 1);
    if (topics.empty())
      for (const char* topic : {"job.", "node."})
        socket.set(zmq::sockopt::subscribe, topic);
    for (const std::string& topic : topics)
      socket.set(zmq::sockopt::subscribe, topic);
    constexpr int kMonitored = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED |
                               ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
    if (zmq_socket_monitor(socket.handle(), "inproc://events", kMonitored) != 0)
      throw zmq::error_t();
    impl_->monitor.set(zmq::sockopt::linger, 0);
    impl_->monitor.connect("inproc://events");
    socket.connect(address);
  } catch (const zmq::error_t& error) {
    throw std::runtime_error(error.what());
  }
}

EventStream::~EventStream() = default;

bool EventStream::wait_until_up(std::int64_t wait_ms) {
  std::array<zmq::pollitem_t, 1> item{{{impl_->monitor.handle(), 0, ZMQ_POLLIN, 0}}};
  const std::int64_t until_ms = monotonic_ms() + wait_ms;
  try {
    while (!impl_->is_up && monotonic_ms() < until_ms) {
      zmq::poll(item.data(), item.size(), std::chrono::milliseconds(until_ms - monotonic_ms()));
      impl_->read_monitor();
    }
  } catch (const zmq::error_t&) {
    return false;
  }
  return impl_->is_up;
}

bool EventStream::is_up() const {
  return impl_->is_up;
}

bool EventStream::is_accepted() const {
  return impl_->is_accepted;
}

std::uint64_t EventStream::lost_count() const {
  return impl_->lost_count;
}

std::optional<SequencedEvent> EventStream::next(std::int64_t wait_ms) {
  std::array<zmq::pollitem_t, 2> items{
      {{impl_->socket.handle(), 0, ZMQ_POLLIN, 0}, {impl_->monitor.handle(), 0, ZMQ_POLLIN, 0}}};
  try {
    if (zmq::poll(items.data(), items.size(), std::chrono::milliseconds(wait_ms)) == 0)
      return std::nullopt;
    // What was published before it went away comes first.
    if (items[0].revents == 0) {
      impl_->read_monitor();
      return std::nullopt;
    }
    zmq::message_t topic;
    zmq::message_t body;
    if (!impl_->socket.recv(topic, zmq::recv_flags::dontwait) || !topic.more()) return std::nullopt;
    if (!impl_->socket.recv(body, zmq::recv_flags::none)) return std::nullopt;
    auto event = decode_event(body.to_string_view());
    if (!event) return std::nullopt;
    return std::move(*event);
  } catch (const zmq::error_t&) {
    return std::nullopt;
  }
}

}  // namespace sluice
