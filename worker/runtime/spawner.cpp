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

template <typename Head>
std::string head_bytes(const Head& head) {
  return {reinterpret_cast<const char*>(&head), sizeof head};
}

void append(std::string& bytes, const ProgramLimits& limits) {
  bytes.append(reinterpret_cast<const char*>(&limits), sizeof limits);
}

void append(std::string& bytes, const std::string& text) {
  bytes.append(text.c_str()).push_back('\0');
}

std::string run_order(const SpawnRequest& request) {
  std::string bytes = head_bytes(KeeperHead{KeeperOp::run,
                                            request.id,
                                            static_cast<std::uint32_t>(request.argv.size()),
                                            request.tells_start ? 1U : 0U});
  append(bytes, request.limits);
  append(bytes, request.cwd);
  append(bytes, request.user);
  for (const std::string& text : request.argv)
    append(bytes, text);
  for (const std::string& text : request.environment)
    append(bytes, text);
  return bytes;
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
    throw std::runtime_error(std::string("the spawner takes no channel: ") +
                             (error != 0 ? std::strerror(error) : "it reads nothing now"));
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
  if (pid_ == 0) run_spawner(far_ends_, isolate_main_, groups_);
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
  backlog_.clear();
  for (const auto& [number, keeper] : keepers_)
    ::shutdown(keeper.line.get(), SHUT_RDWR);
  keepers_.clear();
  keeper_of_.clear();
  idle_.clear();
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
  std::string bytes = run_order(request);
  if (bytes.size() > kPacketBytesMax) return E2BIG;
  std::vector<int> fds{request.stdin_fd, request.stdout_fd, request.stderr_fd};
  if (request.progress_fd >= 0) fds.push_back(request.progress_fd);
  const std::uint64_t number = take_keeper();
  if (number == 0) return errno;
  Keeper& keeper = keepers_.at(number);
  if (const int error = send(keeper.line.get(), std::move(bytes), fds); error != 0) {
    free_keeper(number);
    return error;
  }
  keeper.program = request.id;
  keeper_of_[request.id] = number;
  return 0;
}

std::uint64_t SpawnerChannel::take_keeper() {
  if (idle_.empty()) return start_keeper();
  const std::uint64_t number = idle_.back();
  idle_.pop_back();
  return number;
}

std::uint64_t SpawnerChannel::start_keeper() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return 0;
  Keeper keeper{UniqueFd(ends[0]), 0};
  const UniqueFd far_end(ends[1]);
  const std::uint64_t number = ++last_keeper_;
  const int error = send(fd_, head_bytes(SpawnerHead{SpawnerOp::keeper, number}), {far_end.get()});
  if (error != 0) {
    errno = error;
    return 0;
  }
  keepers_.emplace(number, std::move(keeper));
  return number;
}

void SpawnerChannel::free_keeper(std::uint64_t keeper) {
  if (idle_.size() < kIdleKeepersMax)
    idle_.push_back(keeper);
  else
    drop_keeper(keeper);
}

// It ends when its line does.
void SpawnerChannel::drop_keeper(std::uint64_t keeper) {
  const auto it = keepers_.find(keeper);
  const int line = it->second.line.get();
  std::erase_if(backlog_, [line](const Packet& packet) { return packet.to == line; });
  std::erase(idle_, keeper);
  keepers_.erase(it);
}

int SpawnerChannel::isolate(std::uint64_t id,
                            const std::string& handler,
                            const ProgramLimits& limits,
                            const IsolateEnds& ends) {
  std::string bytes = head_bytes(SpawnerHead{SpawnerOp::isolate, id});
  append(bytes, limits);
  append(bytes, handler);
  return send(fd_, std::move(bytes), {ends.jobs, ends.notes, ends.output});
}

int SpawnerChannel::add_channel(int far_end) {
  return send(fd_, head_bytes(SpawnerHead{SpawnerOp::channel, 0}), {far_end});
}

void SpawnerChannel::terminate(std::uint64_t id) {
  const auto it = keeper_of_.find(id);
  if (it != keeper_of_.end()) tell_keeper(it->second, id, KeeperOp::terminate);
}

void SpawnerChannel::kill(std::uint64_t id) {
  const auto it = keeper_of_.find(id);
  if (it != keeper_of_.end())
    tell_keeper(it->second, id, KeeperOp::kill);
  else
    tell_spawner(SpawnerOp::kill, id);
}

void SpawnerChannel::tell_keeper(std::uint64_t keeper, std::uint64_t program, KeeperOp op) {
  (void)send(keepers_.at(keeper).line.get(), head_bytes(KeeperHead{op, program}), {});
  tell_spawner(op == KeeperOp::kill ? SpawnerOp::kill : SpawnerOp::resume, keeper);
}

void SpawnerChannel::tell_spawner(SpawnerOp op, std::uint64_t id) {
  (void)send(fd_, head_bytes(SpawnerHead{op, id}), {});
}

int SpawnerChannel::send(int to, std::string bytes, const std::vector<int>& fds) {
  // Any other error: the other side is gone, which a report tells, or the end of them.
  if (backlog_.empty() && (send_packet(to, bytes, fds) || !is_no_room(errno))) return 0;
  Packet packet{to, std::move(bytes), {}};
  for (const int fd : fds) {
    UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy.is_open()) return errno;
    packet.fds.push_back(std::move(copy));
  }
  backlog_.push_back(std::move(packet));
  return 0;
}

void SpawnerChannel::flush() {
  while (!backlog_.empty()) {
    const Packet& packet = backlog_.front();
    std::vector<int> fds;
    for (const UniqueFd& fd : packet.fds)
      fds.push_back(fd.get());
    if (!send_packet(packet.to, packet.bytes, fds) && is_no_room(errno)) return;
    backlog_.pop_front();
  }
}

bool SpawnerChannel::read(std::vector<SpawnReport>& reports) {
  while (true) {
    SpawnReport report;
    const ssize_t size = ::recv(fd_, &report, sizeof report, MSG_DONTWAIT);
    if (size == sizeof report)
      take(report, reports);
    else if (size < 0 && errno == EINTR)
      continue;
    else if (size < 0 && errno == EAGAIN)
      return true;
    else
      return false;
  }
}

// A keeper that reports an end is free; the spawner's word is that it is no more.
void SpawnerChannel::take(SpawnReport report, std::vector<SpawnReport>& reports) {
  if (report.keeper == 0 || report.started_pid != 0) return reports.push_back(report);
  const auto it = keepers_.find(report.keeper);
  if (it == keepers_.end()) return;
  const std::uint64_t program = std::exchange(it->second.program, 0);
  keeper_of_.erase(program);
  if (report.id != 0) {
    free_keeper(report.keeper);
  } else {
    drop_keeper(report.keeper);
    report.id = program;
  }
  if (program != 0) reports.push_back(report);
}

}  // namespace sluice
