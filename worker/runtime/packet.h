// Packets between processes of one node, over SOCK_SEQPACKET: bytes, and descriptors with them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "worker/runtime/unique_fd.h"

namespace sluice {

// argv, environment and working directory of a program together.
constexpr std::size_t kPacketBytesMax = 128u * 1024;
constexpr std::size_t kPacketFdsMax = 4;

// False, with errno, when it was not sent. The descriptors stay the caller's.
[[nodiscard]] bool send_packet(int socket, std::string_view bytes, const std::vector<int>& fds);

enum class Received : std::uint8_t {
  packet,
  nothing,  // for now
  end       // the other side is gone
};

// What takes one packet after the other.
class PacketReader {
 public:
  // Does not wait.
  [[nodiscard]] Received receive(int socket);

  // Of the last packet; NUL-terminated. Stands until the next one.
  [[nodiscard]] std::string_view bytes() const { return {buffer_.get(), size_}; }

  [[nodiscard]] char* data() { return buffer_.get(); }

  // -1 where none came.
  [[nodiscard]] std::array<UniqueFd, kPacketFdsMax> take_fds();

  // The kernel gives as many descriptors as this process may have, and drops the rest.
  [[nodiscard]] bool has_lost_fds() const { return has_lost_fds_; }

 private:
  // Pages that no packet has filled are none of ours.
  std::unique_ptr<char[]> buffer_ = std::make_unique_for_overwrite<char[]>(kPacketBytesMax + 1);
  std::size_t size_ = 0;
  std::array<UniqueFd, kPacketFdsMax> fds_;
  bool has_lost_fds_ = false;
};

}  // namespace sluice
