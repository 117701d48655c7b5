#include "worker/runtime/error_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "worker/runtime/program_settings.h"

namespace sluice {

ErrorStream::ErrorStream(UniqueFd pipe) : pipe_(std::move(pipe)) {
  ::fcntl(pipe_.get(), F_SETFL, O_NONBLOCK);
}

std::string ErrorStream::read() {
  constexpr int kReadsMax = 4;
  std::array<char, 32 * 1024> buffer;
  std::string all;
  for (int reads = 0; reads < kReadsMax && pipe_.is_open(); ++reads) {
    const ssize_t size = ::read(pipe_.get(), buffer.data(), buffer.size());
    if (size == 0 || (size < 0 && errno != EINTR && errno != EAGAIN)) pipe_.reset();
    if (size > 0) all.append(buffer.data(), static_cast<std::size_t>(size));
    if (size < static_cast<ssize_t>(buffer.size())) break;
  }
  keep_tail(tail_, all);
  return all;
}

}  // namespace sluice
