// A real HTTP server of a test, as small as it can be: one thread, any number of connections, and
// answers that a well-behaved server would not give.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace sluice {

// What is sent for one request, and what becomes of the connection then.
struct HttpAnswer {
  enum class Then : std::uint8_t {
    close,
    hold,    // stays open, nothing more comes
    repeat,  // `again` is sent for as long as the peer takes it
  };

  std::string bytes = {};
  Then then = Then::close;
  std::string again = {};
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

class HttpServer {
 public:
  // `answer` is called on the server's thread with a request's head and as much of its body as has
  // come. No request is answered before `at_once` of them are there.
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
    bool is_over = false;
  };

  void serve() {
    for (;;) {
      std::vector<pollfd> ready = {{stop_, POLLIN, 0}, {fd_, POLLIN, 0}};
      for (const Connection& connection : connections_) {
        const bool writes =
            !connection.out.empty() ||
            (connection.is_answered && connection.answer.then == HttpAnswer::Then::repeat);
        ready.push_back({connection.fd, static_cast<short>(POLLIN | (writes ? POLLOUT : 0)), 0});
      }
      if (::poll(ready.data(), ready.size(), -1) < 0 || ready[0].revents != 0) return;
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
    connection.request.append(buffer, static_cast<std::size_t>(count));
    if (connection.is_asked || connection.request.find("\r\n\r\n") == std::string::npos) return;
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
    if (connection.out.empty() && connection.answer.then == HttpAnswer::Then::close)
      connection.is_over = true;
  }

  std::function<HttpAnswer(const std::string&)> answer_;
  const std::size_t at_once_;
  int fd_;
  int stop_;
  int port_ = 0;
  std::size_t asked_ = 0;
  std::list<Connection> connections_;
  std::mutex mutex_;  // guards seen_
  std::string seen_;
  std::thread thread_;
};

}  // namespace sluice
