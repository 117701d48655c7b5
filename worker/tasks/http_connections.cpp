#include "worker/tasks/http_connections.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace sluice {

void HttpConnections::opened(int fd) {
  of_fd_[fd] = {};
}

void HttpConnections::closed(int fd) {
  const auto connection = of_fd_.extract(fd);
  if (!connection) return;
  if (!connection.mapped().is_used) --idle_count_;
  fd_of_ends_.erase(connection.mapped().ends);
}

void HttpConnections::set_used(int fd, bool is_used) {
  const auto found = of_fd_.find(fd);
  if (found == of_fd_.end()) return;
  const bool was_used = std::exchange(found->second.is_used, is_used);
  if (was_used && !is_used) ++idle_count_;
  if (!was_used && is_used) --idle_count_;
}

void HttpConnections::remember(int fd, const std::string& ends) {
  fd_of_ends_[ends] = fd;
  of_fd_[fd].ends = ends;
}

bool HttpConnections::has_input(const std::string& ends) const {
  const auto fd = fd_of_ends_.find(ends);
  if (fd == fd_of_ends_.end()) return false;
  char byte = 0;
  return ::recv(fd->second, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
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

}  // namespace sluice
