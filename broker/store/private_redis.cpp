#include "broker/store/private_redis.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include <hiredis/hiredis.h>

#include "broker/store/keys.h"
#include "broker/store/redis_reply.h"
#include "common/ids.h"

namespace sluice {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kStartMax = std::chrono::seconds(10);
constexpr std::chrono::milliseconds kStopMax{4'000};
constexpr std::chrono::milliseconds kSilentStopMax{500};
// A server that begins makes its socket within milliseconds.
constexpr auto kSocketMax = std::chrono::seconds(2);
constexpr auto kLookAgain = std::chrono::milliseconds(5);
// A socket whose owner accepts nothing keeps each of our connections in its queue, of 128 mostly.
constexpr auto kAskAgain = std::chrono::milliseconds(100);
constexpr auto kAskStrangerAgain = std::chrono::seconds(2);

struct FreeContext {
  void operator()(redisContext* context) const { redisFree(context); }
};

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};

using Context = std::unique_ptr<redisContext, FreeContext>;
using ReplyPtr = std::unique_ptr<redisReply, FreeReply>;

Context connect_to(const std::string& socket) {
  Context context(redisConnectUnixWithTimeout(socket.c_str(), {1, 0}));
  if (context == nullptr || context->err != 0) return nullptr;
  redisSetTimeout(context.get(), {1, 0});
  return context;
}

// Who listens at the other end: the process that called listen(2), be it stopped.
pid_t peer_of(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

constexpr pid_t kNobody = 0;
constexpr pid_t kUnknown = -1;

pid_t listener_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(static_cast<char*>(address.sun_path), sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return kUnknown;
  pid_t listener = kUnknown;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
    listener = peer_of(fd);
  else if (errno != EAGAIN)  // its queue is full
    listener = kNobody;
  ::close(fd);
  return listener == 0 ? kNobody : listener;
}

// To the server with this pid, or nothing.
Context connect_to(const std::string& socket, pid_t server) {
  Context context = connect_to(socket);
  return context != nullptr && peer_of(context->fd) == server ? std::move(context) : nullptr;
}

ReplyPtr ask(redisContext* context, const char* command) {
  return ReplyPtr(static_cast<redisReply*>(redisCommand(context, command)));
}

std::string setting(redisContext* context, const std::string& name) {
  return text_at(ask(context, ("CONFIG GET " + name).c_str()).get(), 1);
}

// It may have happened without a word to the one before, who learns it from his next batch.
bool is_owned_by_another(redisContext* context, const std::string& owner) {
  const ReplyPtr reply(static_cast<redisReply*>(
      redisCommand(context, "HGET %s owner", std::string(keys::kMeta).c_str())));
  return reply != nullptr && reply->type == REDIS_REPLY_STRING &&
         std::string_view(reply->str, reply->len) != owner;
}

// A socket's path has a bound of the kernel's; then it stands in a short directory of ours.
Result<std::string> socket_path(const std::string& directory) {
  std::string path = directory + "/redis.sock";
  if (path.size() < sizeof(sockaddr_un::sun_path)) return path;
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  const std::string base = runtime != nullptr && *runtime != 0 ? runtime : "/tmp";
  const std::string holder =
      base + "/sluice-" + std::to_string(getuid()) + "-" + std::to_string(hash64(directory));
  std::error_code error;
  std::filesystem::create_directory(holder, error);
  std::filesystem::permissions(holder, std::filesystem::perms::owner_all, error);
  path = holder + "/redis.sock";
  if (error || path.size() >= sizeof(sockaddr_un::sun_path))
    return fail(ErrorCode::bad_field,
                "--data",
                "the path of a socket in " + directory +
                    " is too long, and there is no shorter place: choose a shorter path");
  return path;
}

// Held until the process ends, however it ends. The file says who holds it.
Result<int> lock_directory(const std::string& directory) {
  const std::string path = directory + "/broker.lock";
  const int lock = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0)
    return fail(ErrorCode::bad_field,
                "--data",
                "can not write to " + directory + ": " + std::strerror(errno));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    char pid[24] = {};
    (void)!::read(lock, pid, sizeof pid - 1);
    ::close(lock);
    return fail(ErrorCode::conflict,
                "--data",
                directory + " belongs to the broker with pid " + pid +
                    ": stop that one, or choose another directory");
  }
  const std::string pid = std::to_string(getpid());
  if (ftruncate(lock, 0) != 0 ||
      ::write(lock, pid.data(), pid.size()) != static_cast<ssize_t>(pid.size())) {
    ::close(lock);
    return fail(ErrorCode::bad_field,
                "--data",
                "can not write to " + directory + ": " + std::strerror(errno));
  }
  return lock;
}

std::vector<std::string> command_line(const std::string& directory, const std::string& socket) {
  return {"redis-server",
          "--port",
          "0",
          "--unixsocket",
          socket,
          "--unixsocketperm",
          "700",
          "--dir",
          directory,
          "--appendonly",
          "yes",
          "--appendfsync",
          "everysec",
          "--save",
          "",
          "--maxmemory-policy",
          "noeviction",
          "--hash-max-listpack-value",
          "1024",
          // Rewriting takes a core from the cluster: not for every few seconds of full load.
          "--auto-aof-rewrite-min-size",
          "256mb",
          "--rdbcompression",
          "no",
          "--daemonize",
          "no",
          "--logfile",
          directory + "/redis.log"};
}

// Whoever serves the files of a directory holds a record lock on this file in it: to the very end
// of its process, which children of it do not prolong (fcntl(2)).
constexpr const char* kServerLock = "/redis.lock";
constexpr int kExitServed = 126;

struct flock whole_file() {
  struct flock lock {};

  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

// Nobody: 0.
pid_t server_of(const std::string& directory) {
  const int file = ::open((directory + kServerLock).c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return 0;
  struct flock lock = whole_file();
  const bool is_known = fcntl(file, F_GETLK, &lock) == 0;
  ::close(file);
  return is_known && lock.l_type != F_UNLCK ? lock.l_pid : 0;
}

// What the server wrote last; its log is its own, and grows without a bound: only its end is read.
std::string last_line(const std::string& path) {
  constexpr std::streamoff kEndBytes = 4096;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  file.seekg(std::max<std::streamoff>(file.tellg() - kEndBytes, 0));
  std::string last;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) last = std::move(line);
  return last;
}

// Only what is safe between fork and exec in a process with threads.
[[noreturn]] void become(char* const* argv, const char* lock_path) {
  setsid();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  const int null = open("/dev/null", O_RDWR);
  dup2(null, 0);
  dup2(null, 1);
  dup2(null, 2);
  struct flock lock = whole_file();
  const int file = open(lock_path, O_RDWR | O_CREAT, 0600);  // open for ever: closing it unlocks
  if (file < 0 || fcntl(file, F_SETLK, &lock) != 0) _exit(kExitServed);
  execvp(argv[0], argv);
  _exit(127);
}

}  // namespace

// The XDG Base Directory Specification has relative paths ignored.
std::string default_data_directory() {
  const auto absolute = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value != nullptr && *value == '/' ? value : "";
  };
  if (const std::string state = absolute("XDG_STATE_HOME"); !state.empty())
    return state + "/sluice";
  const std::string home = absolute("HOME");
  return home.empty() ? "" : home + "/.local/state/sluice";
}

PrivateRedis::PrivateRedis(std::string directory, std::string socket, int lock, Pause pause)
    : directory_(std::move(directory)),
      socket_(std::move(socket)),
      lock_(lock),
      pause_(std::move(pause)) {}

PrivateRedis::~PrivateRedis() {
  ::close(lock_);
}

Result<std::unique_ptr<PrivateRedis>> PrivateRedis::start(const std::string& wanted, Pause pause) {
  std::error_code error;
  const std::string directory = std::filesystem::absolute(wanted, error).string();
  // It holds the payloads: nobody else's business. One that was there is as its owner wants it.
  if (std::filesystem::create_directories(directory, error))
    std::filesystem::permissions(directory, std::filesystem::perms::owner_all, error);
  if (error)
    return fail(ErrorCode::bad_field,
                "--data",
                "can not make " + directory + ": " + error.message());
  auto lock = lock_directory(directory);
  if (!lock) return tl::unexpected(lock.error());
  auto socket = socket_path(directory);
  if (!socket) {
    ::close(*lock);
    return tl::unexpected(socket.error());
  }
  std::unique_ptr<PrivateRedis> redis(
      new PrivateRedis(directory, *socket, *lock, std::move(pause)));
  if (const auto found = redis->find(); !found) return tl::unexpected(found.error());
  if (redis->is_adopted_) return redis;
  if (const auto spawned = redis->spawn(); !spawned) return tl::unexpected(spawned.error());
  if (auto answered = redis->wait_for_answer(); !answered) {
    if (redis->stop({}) == Stopped::silent) {
      answered.error().code = ErrorCode::internal;
      answered.error().detail +=
          "; pid " + std::to_string(redis->pid()) + " ends when it goes on, or kill it";
    }
    return tl::unexpected(answered.error());
  }
  return redis;
}

Result<void> PrivateRedis::find() {
  auto until = Clock::now() + kSocketMax;
  pid_t known = kUnknown;  // the last one who let us in: his queue may be full by now
  bool is_stopped = false;
  for (bool is_told_to_end = false;; is_stopped = pause_(kAskAgain)) {
    pid_t listener = listener_at(socket_);
    if (listener == kUnknown) listener = known;
    if (listener > 0) known = listener;
    const pid_t server = server_of(directory_);
    // That nobody of ours is there is enough to know that an unknown one is a stranger.
    const bool is_strange =
        listener != kNobody && listener != server && (listener != kUnknown || server == 0);
    if (server == 0 && !is_strange) return {};
    pid_ = server == 0 ? -1 : server;
    // One that is slow, busy or stopped is ours too: a second one would spoil its files.
    is_adopted_ = server != 0 && (listener == server || listener == kUnknown);
    is_silent_ = is_adopted_ && !adopt();
    if (is_adopted_) return {};
    if (is_stopped && server != 0) {
      ::kill(server, SIGTERM);
      return fail(ErrorCode::internal,
                  "redis-server",
                  "told to stop while the one of this directory had no socket; pid " +
                      std::to_string(server) + " ends when it goes on, or kill it");
    }
    if (Clock::now() < until && !is_stopped) continue;  // one that begins or ends just now
    if (is_strange)
      return fail(ErrorCode::internal,
                  "redis-server",
                  socket_ + " is held by a process that does not hold redis.lock, " +
                      (listener == kUnknown ? "see `ss -xlp`" : "pid " + std::to_string(listener)) +
                      ": stop that one, or choose another directory");
    if (is_told_to_end)
      return fail(ErrorCode::internal,
                  "redis-server",
                  "the one of this directory, pid " + std::to_string(server) +
                      ", has no socket and does not end: kill it, and start again");
    is_told_to_end = true;
    until = Clock::now() + kStopMax;
    ::kill(server, SIGTERM);
  }
}

bool PrivateRedis::adopt() {
  const Context context = connect_to(socket_, pid_);
  if (context == nullptr || ask(context.get(), "PING") == nullptr) return false;
  // What another hand changed is put right again. While it loads it does not say.
  if (setting(context.get(), "maxmemory-policy") != "noeviction")
    (void)ask(context.get(), "CONFIG SET maxmemory-policy noeviction");
  if (setting(context.get(), "appendonly") != "yes")
    (void)ask(context.get(), "CONFIG SET appendonly yes");
  return true;
}

std::string PrivateRedis::complaint(int fd) const {
  const pid_t peer = peer_of(fd);
  if (peer <= 0 || peer == pid_) return {};
  return socket_ + " is held by another process, pid " + std::to_string(peer) + ": stop that one";
}

Result<void> PrivateRedis::spawn() {
  std::vector<std::string> arguments = command_line(directory_, socket_);
  std::vector<char*> argv;
  for (std::string& argument : arguments)
    argv.push_back(argument.data());
  argv.push_back(nullptr);
  const std::string lock_path = directory_ + kServerLock;
  const pid_t pid = fork();
  if (pid < 0) return fail(ErrorCode::internal, "redis-server", std::strerror(errno));
  if (pid == 0) become(argv.data(), lock_path.c_str());
  pid_ = pid;
  is_adopted_ = is_silent_ = has_given_up_ = false;
  return {};
}

Result<void> PrivateRedis::wait_for_answer() {
  const auto deadline = Clock::now() + kStartMax;
  while (Clock::now() < deadline) {
    // Connecting is enough: while it loads it refuses commands, and open() waits for that.
    if (connect_to(socket_, pid_) != nullptr) return {};
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return fail(ErrorCode::internal,
                    "redis-server",
                    "it is not installed: install redis-server, or give --redis an address");
      // The one that a killed broker began just now was quicker.
      if (WIFEXITED(status) && WEXITSTATUS(status) == kExitServed) return find();
      return tl::unexpected(gave_up());
    }
    if (pause_(kLookAgain))
      return fail(ErrorCode::store_unavailable,
                  "redis-server",
                  "told to stop while it was waited for");
  }
  return fail(ErrorCode::internal,
              "redis-server",
              "it does not answer; " + directory_ + "/redis.log may say why");
}

Error PrivateRedis::gave_up() const {
  const std::string log = directory_ + "/redis.log";
  return {ErrorCode::internal,
          "redis-server",
          "it ended by itself; " + log + ": " + last_line(log)};
}

Result<void> PrivateRedis::keep_up() {
  if (is_alive()) return {};
  if (has_given_up_) return tl::unexpected(gave_up());
  (void)check();
  return {};
}

bool PrivateRedis::is_alive() {
  if (pid_ <= 0) return false;
  if (!is_adopted_) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == 0) return true;
    has_given_up_ = WIFEXITED(status) && WEXITSTATUS(status) != 0;
    last_end_ = has_given_up_ ? gave_up().detail : "it was ended";
    pid_ = -1;
    return false;
  }
  // Not our child: a pidfd is readable from its end on, even while nobody has reaped it.
  const auto descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (descriptor < 0) return errno != ESRCH;
  pollfd poll_fd{descriptor, POLLIN, 0};
  const bool has_ended = ::poll(&poll_fd, 1, 0) > 0;
  ::close(descriptor);
  return !has_ended;
}

bool PrivateRedis::check() {
  if (is_alive()) return false;
  if (const pid_t server = server_of(directory_); server != 0) {
    pid_ = server;
    is_adopted_ = true;
    return false;
  }
  // Not while a stranger has our socket: a server that starts takes it. Connecting names him.
  if (Clock::now() < ask_again_) return false;
  if (listener_at(socket_) != kNobody) {
    ask_again_ = Clock::now() + kAskStrangerAgain;
    return false;
  }
  return spawn().has_value();
}

PrivateRedis::Stopped PrivateRedis::stop(const std::string& owner) {
  // Where no answer comes at once none will in time: it ends when it goes on.
  const Context context = connect_to(socket_, pid_);
  if (context != nullptr) redisSetTimeout(context.get(), {0, 500'000});
  const bool has_answered = context != nullptr && ask(context.get(), "PING") != nullptr;
  if (has_answered) {
    if (!owner.empty() && is_owned_by_another(context.get(), owner)) return Stopped::left;
    redisSetTimeout(context.get(), {4, 0});
    // The append-only file is written and synced by any shutdown. A snapshot beside it would take
    // as long as the data is large, and lie in every backup.
    const bool has_log = setting(context.get(), "appendonly") == "yes";
    (void)ask(context.get(), has_log ? "SHUTDOWN NOSAVE" : "SHUTDOWN SAVE");
  } else if (is_alive()) {
    ::kill(pid_, SIGTERM);
  }
  const auto deadline = Clock::now() + (has_answered ? kStopMax : kSilentStopMax);
  bool is_gone = !is_alive();
  for (; !is_gone && Clock::now() < deadline; is_gone = !is_alive())
    std::this_thread::sleep_for(kLookAgain);
  if (!is_gone) return Stopped::silent;
  // The short directory for a socket whose path would be too long; it goes when it is empty.
  const std::filesystem::path holder = std::filesystem::path(socket_).parent_path();
  std::error_code error;
  if (holder != std::filesystem::path(directory_)) std::filesystem::remove(holder, error);
  return Stopped::ended;
}

}  // namespace sluice
