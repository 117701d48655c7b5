#include "producer/event_stream.h"

#include <array>
#include <chrono>
#include <stdexcept>

#include <zmq.hpp>

#include "common/limits.h"

namespace sluice {

struct EventStream::Impl {
  zmq::context_t context{1};
  zmq::socket_t socket{context, zmq::socket_type::sub};
  zmq::socket_t monitor{context, zmq::socket_type::pair};

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
    if (topics.empty()) socket.set(zmq::sockopt::subscribe, "");
    for (const std::string& topic : topics)
      socket.set(zmq::sockopt::subscribe, topic);
    if (zmq_socket_monitor(socket.handle(), "inproc://events", ZMQ_EVENT_HANDSHAKE_SUCCEEDED) != 0)
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
  try {
    return zmq::poll(item.data(), item.size(), std::chrono::milliseconds(wait_ms)) > 0;
  } catch (const zmq::error_t&) {
    return false;
  }
}

std::optional<SequencedEvent> EventStream::next(std::int64_t wait_ms) {
  std::array<zmq::pollitem_t, 1> item{{{impl_->socket.handle(), 0, ZMQ_POLLIN, 0}}};
  try {
    if (zmq::poll(item.data(), item.size(), std::chrono::milliseconds(wait_ms)) == 0)
      return std::nullopt;
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
