#include "worker/runtime/broker_link.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <zmq.hpp>

#include "common/limits.h"
#include "common/protocol/codec.h"
#include "worker/runtime/log_line.h"

namespace sluice {

namespace {

constexpr int kReadPerTurnMax = 2000;
constexpr std::int64_t kSayAgainMs = 60'000;
constexpr std::int64_t kReopenDelayMs = 1000;
constexpr std::int64_t kReopenDelayMaxMs = 30'000;
constexpr int kMonitored = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                           ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED |
                           ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                           ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;

// pitfalls.md, "libzmq": every peer has these.
void set_options(zmq::socket_t& socket, int high_water_mark) {
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kMessageBytesMax) + 65'536);
  socket.set(zmq::sockopt::rcvhwm, high_water_mark);
  socket.set(zmq::sockopt::sndhwm, high_water_mark);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::immediate, true);
  socket.set(zmq::sockopt::reconnect_ivl, 100);
  socket.set(zmq::sockopt::reconnect_ivl_max, 1000);
  socket.set(zmq::sockopt::heartbeat_ivl, 2000);
  socket.set(zmq::sockopt::heartbeat_timeout, 6000);
  socket.set(zmq::sockopt::heartbeat_ttl, 10'000);
  socket.set(zmq::sockopt::handshake_ivl, 3000);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
}

}  // namespace

BrokerLink::BrokerLink(std::string address, std::uint32_t concurrency)
    : address_(std::move(address)),
      high_water_mark_(static_cast<int>(concurrency) + 64),
      context_(std::make_unique<zmq::context_t>(1)) {
  open();
}

BrokerLink::~BrokerLink() {
  shut(0);
}

void BrokerLink::open() {
  socket_ = std::make_unique<zmq::socket_t>(*context_, zmq::socket_type::dealer);
  set_options(*socket_, high_water_mark_);
  const std::string endpoint = "inproc://monitor-" + std::to_string(++monitor_count_);
  if (zmq_socket_monitor(socket_->handle(), endpoint.c_str(), kMonitored) != 0)
    throw zmq::error_t();
  monitor_ = std::make_unique<zmq::socket_t>(*context_, zmq::socket_type::pair);
  monitor_->set(zmq::sockopt::linger, 0);
  monitor_->connect(endpoint);
  socket_->connect(address_);
  is_accepted_ = false;
}

void BrokerLink::shut(int linger_ms) {
  if (!socket_) return;
  zmq_socket_monitor(socket_->handle(), nullptr, 0);
  monitor_.reset();
  socket_->set(zmq::sockopt::linger, linger_ms);
  socket_.reset();
}

void BrokerLink::close() {
  if (!socket_) return;
  socket_->set(zmq::sockopt::sndtimeo, 1000);
  for (const std::string& frame : std::exchange(backlog_, {}))
    if (!socket_->send(zmq::buffer(frame), zmq::send_flags::none)) break;
  shut(2000);
}

void BrokerLink::add_poll_items(std::vector<zmq_pollitem_t>& items) {
  const auto wanted = static_cast<short>(ZMQ_POLLIN | (backlog_.empty() ? 0 : ZMQ_POLLOUT));
  items.push_back({socket_->handle(), 0, wanted, 0});
  items.push_back({monitor_->handle(), 0, ZMQ_POLLIN, 0});
}

void BrokerLink::read(Now now, std::vector<WorkerEvent>& events) {
  read_monitor(now, events);
  if (now.mono_ms >= next_deadline_mono_ms()) {
    reopen_ms_ = revive_ms_ = kNever;
    shut(0);
    open();
  }
  flush();
  read_messages(events);
}

void BrokerLink::read_monitor(Now now, std::vector<WorkerEvent>& events) {
  zmq::message_t head;
  zmq::message_t address;
  while (monitor_->recv(head, zmq::recv_flags::dontwait)) {
    if (!head.more() || !monitor_->recv(address, zmq::recv_flags::none)) continue;
    std::uint16_t event = 0;
    std::uint32_t value = 0;
    if (head.size() < sizeof event + sizeof value) continue;
    std::memcpy(&event, head.data(), sizeof event);
    std::memcpy(&value, static_cast<const char*>(head.data()) + sizeof event, sizeof value);
    on_monitor(event, value, now, events);
  }
}

void BrokerLink::on_monitor(std::uint16_t event,
                            std::uint32_t value,
                            Now now,
                            std::vector<WorkerEvent>& events) {
  switch (event) {
    case ZMQ_EVENT_CONNECTED:
      is_accepted_ = true;
      return;
    case ZMQ_EVENT_CLOSED:  // an attempt to connect failed
      is_accepted_ = false;
      return;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      is_up_ = true;
      said_nobody_ms_ = said_silent_ms_ = kNotSaid;
      reopen_delay_ms_ = kReopenDelayMs;
      revive_ms_ = kNever;
      events.emplace_back(ConnectionUp{});
      return;
    case ZMQ_EVENT_DISCONNECTED:
      backlog_.clear();  // the core repeats it all on the next connection
      revive_ms_ = after(now.mono_ms, kReopenDelayMs);
      if (std::exchange(is_up_, false)) events.emplace_back(ConnectionDown{});
      return;
    case ZMQ_EVENT_CONNECT_RETRIED:
      revive_ms_ = kNever;
      if (!is_accepted_) say_nobody_answers(now);
      return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL && value == EAGAIN)
        say_silent(now);
      else if (reopen_ms_ == kNever)
        log_line(LogLevel::error,
                 "handshake_failed",
                 {{"broker", address_},
                  {"zmq_event", std::to_string(event)},
                  {"zmq_value", std::to_string(value)},
                  {"what_next", "is that the workers' port of a broker? trying again"}});
      reopen_ms_ = after(now.mono_ms, reopen_delay_ms_);
      reopen_delay_ms_ = std::min(reopen_delay_ms_ * 2, kReopenDelayMaxMs);
      return;
    default:
      return;
  }
}

bool BrokerLink::may_say(std::int64_t& said_ms, Now now) const {
  if (is_up_ || (said_ms != kNotSaid && now.mono_ms < said_ms + kSayAgainMs)) return false;
  said_ms = now.mono_ms;
  return true;
}

// The time of the handshake is over, and not a byte came.
void BrokerLink::say_silent(Now now) {
  if (!may_say(said_silent_ms_, now)) return;
  log_line(LogLevel::warn,
           "broker_silent",
           {{"broker", address_},
            {"what_next",
             "accepts the connection and says nothing, as a broker that is stopped or "
             "hangs; trying again"}});
}

void BrokerLink::say_nobody_answers(Now now) {
  if (!may_say(said_nobody_ms_, now)) return;
  log_line(LogLevel::warn,
           "no_broker",
           {{"broker", address_},
            {"what_next", "nobody answers there; trying again until a sluice-broker does"}});
}

void BrokerLink::read_messages(std::vector<WorkerEvent>& events) {
  zmq::message_t frame;
  for (int count = 0; count < kReadPerTurnMax; ++count) {
    if (!socket_->recv(frame, zmq::recv_flags::dontwait)) return;
    if (frame.more()) {  // one message is one frame
      zmq::message_t rest;
      do {
        if (!socket_->recv(rest, zmq::recv_flags::none)) break;
      } while (rest.more());
      log_line(LogLevel::warn, "message_ignored", {{"why", "more than one frame"}});
      continue;
    }
    auto message = decode_broker_message({static_cast<const char*>(frame.data()), frame.size()});
    if (message)
      events.emplace_back(std::move(*message));
    else
      log_line(LogLevel::warn,
               "message_ignored",
               {{"field", message.error().where}, {"why", message.error().detail}});
  }
}

void BrokerLink::send(const WorkerMessage& message) {
  backlog_.push_back(encode_worker_message(message));
  flush();
}

void BrokerLink::flush() {
  while (!backlog_.empty()) {
    if (!socket_->send(zmq::buffer(backlog_.front()), zmq::send_flags::dontwait)) return;
    backlog_.pop_front();
  }
}

}  // namespace sluice
