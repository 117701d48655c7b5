#include "worker/runtime/health.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>

#include "common/ids.h"
#include "worker/runtime/log_line.h"

namespace sluice {

namespace {

constexpr int kWaitingMax = 16;
constexpr std::size_t kAnswerBytesMax = 1024;

// A name that is nobody's file: nothing is left behind by a node that is killed.
struct Place {
  sockaddr_un address{};
  socklen_t size = 0;

  explicit Place(const std::string& name) {
    std::string text = "sluice-worker/" + name;
    if (text.size() + 1 > sizeof address.sun_path) {
      const IdHash hash = hash_id(name);
      text = fmt::format("sluice-worker/{:016x}{:016x}", hash.high, hash.low);
    }
    address.sun_family = AF_UNIX;
    std::copy(text.begin(), text.end(), address.sun_path + 1);
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  }

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

const char* yes_or_no(bool is_true) {
  return is_true ? "yes" : "no";
}

}  // namespace

std::string to_line(const Health& health) {
  return fmt::format(
      "node={} broker={} connected={} draining={} running={} concurrency={} unacknowledged={}",
      health.node,
      health.broker,
      yes_or_no(health.is_connected),
      yes_or_no(health.is_draining),
      health.running,
      health.concurrency,
      health.unacknowledged);
}

std::string health_place(const std::string& name, const std::string& state_dir) {
  if (state_dir.empty()) return name;
  // By its words only: who asks may not be allowed to look where the links lead.
  std::string path = std::filesystem::absolute(state_dir).lexically_normal();
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

HealthSocket::HealthSocket(const std::string& place) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const Place at(place);
  if (fd.is_open() && ::bind(fd.get(), at.get(), at.size) == 0 &&
      ::listen(fd.get(), kWaitingMax) == 0) {
    listening_ = std::move(fd);
    spare_ = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return;
  }
  const std::string reason = errno == EADDRINUSE
                                 ? "another node on this machine answers for " + place +
                                       ": give each a --name or a --state-dir of its own"
                                 : std::string(std::strerror(errno));
  log_line(LogLevel::warn, "check_unavailable", {{"reason", reason}});
}

// Without a descriptor for it an asker would stay, and the socket readable, for ever: one is kept
// for that.
void HealthSocket::answer(const Health& health) {
  const std::string line = to_line(health) + "\n";
  for (int asked = 0; asked < kWaitingMax; ++asked) {
    UniqueFd asker(::accept4(listening_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    const bool is_short = !asker.is_open() && (errno == EMFILE || errno == ENFILE);
    if (is_short) {
      spare_.reset();
      asker = UniqueFd(::accept4(listening_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    }
    const bool is_answered = asker.is_open();
    // (An empty socket takes it.)
    if (is_answered) (void)::send(asker.get(), line.data(), line.size(), MSG_NOSIGNAL);
    asker.reset();
    if (!spare_.is_open()) spare_ = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!is_answered) return;
  }
}

Result<std::string> ask_health(const std::string& place, int timeout_ms) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const Place at(place);
  const int refused = ::connect(fd.get(), at.get(), at.size) == 0 ? 0 : errno;
  if (refused != 0 && refused != EAGAIN)  // EAGAIN: too many ask, and nobody answers them
    return fail(
        ErrorCode::not_found,
        place,
        "no node answers here: is it running, as this user, and with this --name or --state-dir?");
  ucred owner{};
  socklen_t owner_size = sizeof owner;
  if (refused == 0 && ::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &owner, &owner_size) == 0 &&
      owner.uid != 0 && owner.uid != ::geteuid() && ::geteuid() != 0)
    return fail(ErrorCode::denied, place, "what answers here is another user's");
  std::string line;
  std::array<char, kAnswerBytesMax> buffer{};
  pollfd ready{fd.get(), POLLIN, 0};
  while (refused == 0 && ::poll(&ready, 1, timeout_ms) > 0) {
    const ssize_t count = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (count <= 0) break;
    line.append(buffer.data(), static_cast<std::size_t>(count));
    if (line.ends_with('\n')) return line.substr(0, line.size() - 1);
    if (line.size() >= kAnswerBytesMax) break;
  }
  return fail(ErrorCode::retry_later,
              place,
              "the node does not answer: it is stopped, starved, or hangs");
}

}  // namespace sluice
