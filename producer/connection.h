// The one connection of a client to its broker: a DEALER, its monitor, and the requests that have
// no closing answer yet. A request goes out as soon as the connection stands; when the connection
// breaks, everything unanswered goes out again on the next one (resending is safe, PROTOCOL.md).
// Not thread-safe. Errors of libzmq are thrown as std::runtime_error by the constructor only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/protocol/messages.h"

namespace sluice {

class Connection {
 public:
  // Does not wait for the broker. Throws std::runtime_error when `address` is no ZeroMQ address.
  explicit Connection(const std::string& address);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Takes a request; it is sent by the next receive(). Returns its number; 0 when it is longer than
  // a message may be, and is not taken: the answer to such a one does not say to what.
  std::uint64_t post(const RequestBody& body);
  // No longer waits for this answer; one that comes later is dropped. True when the request was
  // sent, over whichever connection: the broker may have got it.
  bool forget(std::uint64_t number);

  struct Answer {
    std::uint64_t number = 0;
    ReplyBody body;
    bool is_closing = true;  // the request is forgotten
    bool was_resent =
        false;  // another copy of the request was never answered: the broker may take it
  };

  // How long the connection may be down, of the time spent in receive().
  struct Outage {
    std::int64_t at_first_ms = 0;  // before it ever stood
    std::int64_t later_ms = 0;
  };

  // Sends what waits and returns the next answer to a request that was not forgotten; nothing when
  // `deadline_ms` (steady clock) has come, or when the connection was down for longer than it may.
  std::optional<Answer> receive(std::int64_t deadline_ms, Outage outage_max);

  [[nodiscard]] bool is_up() const;
  // Whether it ever stood.
  [[nodiscard]] bool was_up() const;
  // Whether somebody accepts connections there, or the kernel does for somebody who is stopped.
  [[nodiscard]] bool is_accepted() const;
  // Why the last handshake was refused, in words; empty when none was.
  [[nodiscard]] const std::string& refusal() const;
  [[nodiscard]] std::size_t open_count() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
