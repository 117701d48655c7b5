#include "worker/runtime/spawner.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "common/clock.h"
#include "worker/runtime/spawner_process.h"

namespace sluice {

namespace {

std::size_t thread_count() {
  std::size_t count = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", error)) {
    (void)entry;
    ++count;
  }
  return count;
}

// A thread that was joined is seen for a moment still: pthread_join returns before the kernel is
// done with it.
bool is_alone() {
  constexpr int kTries = 1000;
  for (int tries = 0; thread_count() > 1; ++tries) {
    if (tries == kTries) return false;
    (void)::poll(nullptr, 0, 1);
  }
  return true;
}

constexpr int kPatienceMs = 2'000;

void close_all(const std::vector<int>& fds) {
  for (const int fd : fds)
    ::close(fd);
}

// For now: the socket is full, or too many descriptors are under way in such sockets.
bool is_no_room(int error) {
  return error == EAGAIN || error == ENOBUFS || error == ETOOMANYREFS || error == EINTR;
}

}  // namespace

Spawner::~Spawner() {
  for (const int fd : far_ends_)
    ::close(fd);
  channels_.clear();
  control_.reset();
  while (pid_ > 0 && ::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Spawner::Ends Spawner::make_ends() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw std::runtime_error(std::string("socketpair: ") + std::strerror(errno));
  const int room = 1 << 20;
  for (const int end : ends)
    ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return {ends[0], ends[1]};
}

SpawnerChannel& Spawner::open_channel() {
  if (is_settled_ && pid_ < 0)
    throw std::runtime_error(
        "this node began without programs and isolates, and can have none before it is started "
        "again");
  const Ends ends = make_ends();
  SpawnerChannel& channel = *channels_.emplace_back(std::make_unique<SpawnerChannel>(ends.near));
  if (!is_settled_) {
    far_ends_.push_back(ends.far);
    return channel;
  }
  const int error = control_->add_channel(ends.far);
  ::close(ends.far);
  // Nobody sends later what found no room now.
  if (error != 0 || control_->has_backlog()) {
    channels_.pop_back();
    throw std::runtime_error(std::string("the spawner takes no channel: ") + std::strerror(error));
  }
  channel.set_spawner(pid_);
  return channel;
}

void Spawner::drop_channels(std::size_t count) {
  while (channels_.size() > count) {
    channels_.back()->close_idle();
    channels_.pop_back();
  }
}

void Spawner::fork() {
  is_settled_ = true;
  if (channels_.empty()) return;
  if (!is_alone())
    throw std::runtime_error(
        "programs cannot be run: this process already has a second thread, and the spawner must be "
        "forked before that");
  const Ends control = make_ends();
  control_ = std::make_unique<SpawnerChannel>(control.near);
  far_ends_.push_back(control.far);
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (pid_ == 0) run_spawner(far_ends_, isolate_main_);
  for (const int fd : std::exchange(far_ends_, {}))
    ::close(fd);
  for (const auto& channel : channels_)
    channel->set_spawner(pid_);
  control_->set_spawner(pid_);
}

SpawnerChannel::~SpawnerChannel() {
  close();
}

void SpawnerChannel::ask_to_end() {
  for (const Packet& packet : std::exchange(backlog_, {}))
    close_all(packet.fds);
  ::shutdown(fd_, SHUT_WR);
}

void SpawnerChannel::close_idle() {
  if (fd_ < 0) return;
  ask_to_end();
  (void)has_ended_within(kPatienceMs);
  ::close(std::exchange(fd_, -1));
}

void SpawnerChannel::close() {
  if (fd_ < 0) return;
  ask_to_end();
  if (!has_ended_within(kPatienceMs) && spawner_ > 0) {
    ::kill(spawner_, SIGKILL);
    (void)has_ended_within(kPatienceMs);
  }
  ::close(std::exchange(fd_, -1));
}

// It does when nothing of ours is left.
bool SpawnerChannel::has_ended_within(int patience_ms) const {
  SpawnReport ignored;
  const std::int64_t until_ms = after(monotonic_ms(), patience_ms);
  while (true) {
    const std::int64_t left_ms = until_ms - monotonic_ms();
    if (left_ms <= 0) return false;
    pollfd item{fd_, POLLIN, 0};
    (void)::poll(&item, 1, static_cast<int>(left_ms));
    const ssize_t size = ::recv(fd_, &ignored, sizeof ignored, MSG_DONTWAIT);
    if (size == 0 || (size < 0 && errno != EINTR && errno != EAGAIN)) return true;
  }
}

int SpawnerChannel::spawn(const SpawnRequest& request) {
  const SpawnerHead head{SpawnerOp::spawn, request.id, request.tells_start ? 1U : 0U};
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  const auto append = [&bytes](const std::string& text) {
    bytes.append(text.c_str()).push_back('\0');
  };
  bytes.append(reinterpret_cast<const char*>(&request.limits), sizeof request.limits);
  append(request.cwd);
  append(request.user);
  append(std::to_string(request.argv.size()));
  for (const std::string& text : request.argv)
    append(text);
  for (const std::string& text : request.environment)
    append(text);
  if (bytes.size() > kRequestBytesMax) return E2BIG;
  std::vector<int> fds{request.stdin_fd, request.stdout_fd, request.stderr_fd};
  if (request.progress_fd >= 0) fds.push_back(request.progress_fd);
  return send_with(std::move(bytes), fds);
}

int SpawnerChannel::isolate(std::uint64_t id,
                            const std::string& handler,
                            const ProgramLimits& limits,
                            int jobs_fd,
                            int notes_fd) {
  const SpawnerHead head{SpawnerOp::isolate, id};
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  bytes.append(reinterpret_cast<const char*>(&limits), sizeof limits);
  bytes.append(handler.c_str()).push_back('\0');
  return send_with(std::move(bytes), {jobs_fd, notes_fd});
}

int SpawnerChannel::add_channel(int far_end) {
  const SpawnerHead head{SpawnerOp::channel, 0};
  return send_with(std::string(reinterpret_cast<const char*>(&head), sizeof head), {far_end});
}

int SpawnerChannel::send_with(std::string bytes, const std::vector<int>& fds) {
  Packet packet{std::move(bytes), {}};
  for (const int fd : fds) {
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) {
      const int error = errno;
      close_all(packet.fds);
      return error;
    }
    packet.fds.push_back(copy);
  }
  send(std::move(packet));
  return 0;
}

void SpawnerChannel::terminate(std::uint64_t id) {
  const SpawnerHead head{SpawnerOp::terminate, id};
  send({std::string(reinterpret_cast<const char*>(&head), sizeof head), {}});
}

void SpawnerChannel::kill(std::uint64_t id) {
  const SpawnerHead head{SpawnerOp::kill, id};
  send({std::string(reinterpret_cast<const char*>(&head), sizeof head), {}});
}

void SpawnerChannel::send(Packet packet) {
  backlog_.push_back(std::move(packet));
  flush();
}

void SpawnerChannel::flush() {
  while (!backlog_.empty() && try_send(backlog_.front())) {
    close_all(backlog_.front().fds);
    backlog_.pop_front();
  }
}

bool SpawnerChannel::try_send(const Packet& packet) {
  iovec part{const_cast<char*>(packet.bytes.data()), packet.bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kPacketFdsMax * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!packet.fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(packet.fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(packet.fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), packet.fds.data(), packet.fds.size() * sizeof(int));
  }
  const ssize_t sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  // Anything but "no room": the spawner is gone, which read() tells.
  return sent >= 0 || !is_no_room(errno);
}

bool SpawnerChannel::read(std::vector<SpawnReport>& reports) {
  while (true) {
    SpawnReport report;
    const ssize_t size = ::recv(fd_, &report, sizeof report, MSG_DONTWAIT);
    if (size == sizeof report)
      reports.push_back(report);
    else if (size < 0 && errno == EINTR)
      continue;
    else if (size < 0 && errno == EAGAIN)
      return true;
    else
      return false;
  }
}

}  // namespace sluice
