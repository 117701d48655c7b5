#include "worker/runtime/isolate_wire.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/limits.h"

namespace sluice {

namespace {

constexpr std::size_t kLengthBytes = sizeof(std::uint32_t);
constexpr std::size_t kReadBytes = 16u * 1024;  // at least, in one read

}  // namespace

std::string isolate_frame(std::string_view message) {
  const auto length = static_cast<std::uint32_t>(message.size());
  std::string frame(kLengthBytes, '\0');
  frame.reserve(kLengthBytes + message.size());
  std::memcpy(frame.data(), &length, kLengthBytes);
  return frame.append(message);
}

std::size_t FrameReader::next_bytes() const {
  if (end_ - begin_ < kLengthBytes) return 0;
  std::uint32_t length = 0;
  std::memcpy(&length, buffer_.data() + begin_, kLengthBytes);
  return kLengthBytes + length;
}

FrameReader::Fill FrameReader::fill(int fd) {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const std::size_t wanted = std::max(end_ + kReadBytes, next_bytes());
  if (buffer_.size() < wanted) buffer_.resize(wanted);
  while (true) {
    const ssize_t size = ::read(fd, buffer_.data() + end_, buffer_.size() - end_);
    if (size > 0) {
      end_ += static_cast<std::size_t>(size);
      return Fill::some;
    }
    if (size < 0 && errno == EINTR) continue;
    return size < 0 && errno == EAGAIN ? Fill::none : Fill::end;
  }
}

std::optional<std::string_view> FrameReader::next() {
  const std::size_t bytes = next_bytes();
  if (bytes > kLengthBytes + kMessageBytesMax) is_broken_ = true;
  if (is_broken_ || bytes == 0 || bytes > end_ - begin_) return std::nullopt;
  const std::string_view message(buffer_.data() + begin_ + kLengthBytes, bytes - kLengthBytes);
  begin_ += bytes;
  return message;
}

}  // namespace sluice
