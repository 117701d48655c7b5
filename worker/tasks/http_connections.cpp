#include "worker/tasks/http_connections.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

namespace sluice {

void HttpConnections::remember(int fd, const std::string& ends) {
  socket_of[ends] = fd;
  ends_of[fd] = ends;
}

void HttpConnections::forget(int fd) {
  if (const auto node = ends_of.extract(fd)) socket_of.erase(node.mapped());
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

bool has_input(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

}  // namespace sluice
