// A real HTTP server of a test, as small as it can be: one thread, any number of connections, and
// answers that a well-behaved server would not give.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace sluice {

// What is sent for one request, and what becomes of the connection then.
struct HttpAnswer {
  enum class Then : std::uint8_t {
    close,
    reset,   // closed with a reset, not a farewell
    hold,    // stays open, nothing more comes
    keep,    // stays open for the next request
    repeat,  // `again` is sent for as long as the peer takes it
    drip,    // the same, a byte every few milliseconds
  };

  std::string bytes = {};
  Then then = Then::close;
  std::string again = {};
  std::string unasked = {};  // sent first, on every other connection that waits for a request
};

// A whole answer that ends its connection. `headers` are lines, each with its end.
inline HttpAnswer http_answer(const std::string& status,
                              const std::string& headers = {},
                              const std::string& body = {}) {
  return {"HTTP/1.1 " + status + "\r\nConnection: close\r\n" + headers +
              "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body,
          HttpAnswer::Then::close,
          {}};
}

// The same on a connection that is kept for the next request.
inline HttpAnswer kept_answer(const std::string& body, const std::string& headers = {}) {
  return {"HTTP/1.1 200 OK\r\n" + headers + "Content-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body,
          HttpAnswer::Then::keep,
          {}};
}

class HttpServer {
 public:
  // `answer` is called on the server's thread with a whole request. None is answered before
  // `at_once` of them have come.
  explicit HttpServer(std::function<HttpAnswer(const std::string&)> answer, std::size_t at_once = 1)
      : answer_(std::move(answer)),
        at_once_(at_once),
        fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)),
        stop_(::eventfd(0, EFD_CLOEXEC)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(fd_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(fd_, 4096);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }

  ~HttpServer() {
    const std::uint64_t one = 1;
    (void)!::write(stop_, &one, sizeof one);
    thread_.join();
    for (const Connection& connection : connections_)
      ::close(connection.fd);
    ::close(stop_);
    ::close(fd_);
  }

  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] std::string url(const std::string& path = "/",
                                const std::string& host = "127.0.0.1") const {
    return "http://" + host + ":" + std::to_string(port_) + path;
  }

  [[nodiscard]] int port() const { return port_; }

  // Connections that were ever made.
  [[nodiscard]] std::size_t connection_count() const { return connection_count_; }

  // Of all requests, and of what is none.
  [[nodiscard]] std::size_t received_bytes() const { return received_bytes_; }

  // Every request so far, one behind the other.
  [[nodiscard]] std::string seen() {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

 private:
  struct Connection {
    int fd = -1;
    std::string request;
    bool is_asked = false;     // its request is complete
    bool is_answered = false;  // `out` is filled
    std::string out;
    HttpAnswer answer;
    std::size_t dripped = 0;
    bool is_over = false;
  };

  static constexpr int kDripMs = 3;

  void serve() {
    for (;;) {
      std::vector<pollfd> ready = {{stop_, POLLIN, 0}, {fd_, POLLIN, 0}};
      for (const Connection& connection : connections_) {
        const bool writes =
            !connection.out.empty() ||
            (connection.is_answered && connection.answer.then == HttpAnswer::Then::repeat);
        ready.push_back({connection.fd, static_cast<short>(POLLIN | (writes ? POLLOUT : 0)), 0});
      }
      const int ready_count = ::poll(ready.data(), ready.size(), drips() ? kDripMs : -1);
      if (ready_count < 0 || ready[0].revents != 0) return;
      if (ready_count == 0) drip();
      auto at = connections_.begin();
      for (std::size_t i = 2; i < ready.size(); ++i, ++at)
        turn(*at, ready[i].revents);
      answer_all();
      connections_.remove_if([](const Connection& connection) {
        if (connection.is_over) ::close(connection.fd);
        return connection.is_over;
      });
      if (ready[1].revents != 0) accept_all();
    }
  }

  void accept_all() {
    for (int fd; (fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
      Connection connection;
      connection.fd = fd;
      connections_.push_back(std::move(connection));
      ++connection_count_;
    }
  }

  void turn(Connection& connection, short events) {
    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) read(connection);
    if ((events & POLLOUT) != 0 && !connection.is_over) write(connection);
  }

  void read(Connection& connection) {
    char buffer[1 << 14];
    const ssize_t count = ::recv(connection.fd, buffer, sizeof buffer, 0);
    if (count <= 0) {
      connection.is_over = true;
      return;
    }
    received_bytes_ += static_cast<std::size_t>(count);
    connection.request.append(buffer, static_cast<std::size_t>(count));
    if (connection.is_asked || !is_whole(connection.request)) return;
    connection.is_asked = true;
    ++asked_;
    const std::lock_guard lock(mutex_);
    seen_ += connection.request;
  }

  void answer_all() {
    if (asked_ < at_once_) return;
    for (Connection& connection : connections_) {
      if (!connection.is_asked || connection.is_answered || connection.is_over) continue;
      connection.is_answered = true;
      connection.answer = answer_(connection.request);
      for (const Connection& other : connections_)
        if (!other.is_asked)
          (void)!::send(other.fd,
                        connection.answer.unasked.data(),
                        connection.answer.unasked.size(),
                        MSG_NOSIGNAL);
      connection.out = connection.answer.bytes;
      write(connection);
    }
  }

  void write(Connection& connection) {
    if (connection.out.empty() && connection.answer.then == HttpAnswer::Then::repeat)
      connection.out = connection.answer.again;
    const ssize_t count =
        ::send(connection.fd, connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
    if (count > 0) connection.out.erase(0, static_cast<std::size_t>(count));
    if (!connection.out.empty()) return;
    if (connection.answer.then == HttpAnswer::Then::close) connection.is_over = true;
    if (connection.answer.then == HttpAnswer::Then::reset) reset(connection);
    if (connection.answer.then != HttpAnswer::Then::keep) return;
    connection.request.clear();
    connection.is_asked = connection.is_answered = false;
  }

  static void reset(Connection& connection) {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    connection.is_over = true;
  }

  // Its head, and the body whose length that names.
  static bool is_whole(const std::string& request) {
    const std::size_t head_end = request.find("\r\n\r\n");
    if (head_end == std::string::npos) return false;
    std::string head = request.substr(0, head_end);
    std::ranges::transform(head, head.begin(), [](unsigned char c) { return std::tolower(c); });
    constexpr std::string_view kLength = "\r\ncontent-length:";
    const std::size_t at = head.find(kLength);
    const std::size_t body_bytes =
        at == std::string::npos ? 0 : std::strtoul(head.c_str() + at + kLength.size(), nullptr, 10);
    return request.size() >= head_end + 4 + body_bytes;
  }

  [[nodiscard]] bool drips() const {
    return std::ranges::any_of(connections_, [](const Connection& connection) {
      return connection.is_answered && connection.answer.then == HttpAnswer::Then::drip;
    });
  }

  void drip() {
    for (Connection& connection : connections_) {
      const std::string& again = connection.answer.again;
      if (connection.answer.then != HttpAnswer::Then::drip || !connection.out.empty()) continue;
      connection.out = again[connection.dripped++ % again.size()];
      write(connection);
    }
  }

  std::function<HttpAnswer(const std::string&)> answer_;
  const std::size_t at_once_;
  int fd_;
  int stop_;
  int port_ = 0;
  std::size_t asked_ = 0;
  std::atomic<std::size_t> connection_count_ = 0;
  std::atomic<std::size_t> received_bytes_ = 0;
  std::list<Connection> connections_;
  std::mutex mutex_;  // guards seen_
  std::string seen_;
  std::thread thread_;
};

}  // namespace sluice
