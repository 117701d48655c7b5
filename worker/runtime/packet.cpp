#include "worker/runtime/packet.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

namespace sluice {

namespace {

using Control = std::array<char, CMSG_SPACE(kPacketFdsMax * sizeof(int))>;

std::size_t fd_count(const cmsghdr& header) {
  return (header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
}

}  // namespace

bool send_packet(int socket, std::string_view bytes, const std::vector<int>& fds) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

Received PacketReader::receive(int socket) {
  iovec part{buffer_.get(), kPacketBytesMax};
  alignas(cmsghdr) Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return Received::nothing;
  if (size <= 0) return Received::end;
  size_ = static_cast<std::size_t>(size);
  buffer_[size_] = '\0';
  has_lost_fds_ = (message.msg_flags & MSG_CTRUNC) != 0;
  fds_ = {};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  for (std::size_t i = 0; header != nullptr && i < fd_count(*header); ++i) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
    fds_[i] = UniqueFd(fd);
  }
  return Received::packet;
}

std::array<UniqueFd, kPacketFdsMax> PacketReader::take_fds() {
  return std::exchange(fds_, {});
}

}  // namespace sluice
