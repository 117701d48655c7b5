#include "tests/support/redis_server.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <thread>

#include <hiredis/hiredis.h>

namespace sluice::test {

namespace {

struct FreeContext {
  void operator()(redisContext* context) const { redisFree(context); }
};

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};

using Context = std::unique_ptr<redisContext, FreeContext>;

std::string text_of(const redisReply& reply) {
  if (reply.type == REDIS_REPLY_INTEGER) return std::to_string(reply.integer);
  if (reply.type != REDIS_REPLY_ARRAY)
    return reply.str == nullptr ? std::string() : std::string(reply.str, reply.len);
  std::string text;
  for (std::size_t i = 0; i < reply.elements; ++i)
    text += (i == 0 ? "" : "\n") + text_of(*reply.element[i]);
  return text;
}

}  // namespace

RedisServer::RedisServer(std::vector<std::string> options) : options_(std::move(options)) {
  std::string pattern = (std::filesystem::temp_directory_path() / "sluice-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary directory");
  directory_ = pattern;
  start();
}

RedisServer::~RedisServer() {
  kill_hard();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void RedisServer::start() {
  std::vector<std::string> arguments = {"redis-server",
                                        "--port",
                                        "0",
                                        "--unixsocket",
                                        socket(),
                                        "--dir",
                                        directory_,
                                        "--save",
                                        "",
                                        "--appendonly",
                                        "yes",
                                        "--appendfsync",
                                        "everysec",
                                        "--logfile",
                                        "redis.log"};
  arguments.insert(arguments.end(), options_.begin(), options_.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments)
    argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that dies leaves nothing behind
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 1);
    dup2(null, 2);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  // Waits for an answer, not for a time.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (std::chrono::steady_clock::now() < deadline) {
    const Context context(redisConnectUnix(socket().c_str()));
    if (context != nullptr && context->err == 0 && ask({"PING"}) == "PONG") return;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  throw std::runtime_error("redis-server did not answer");
}

void RedisServer::kill_hard() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::string RedisServer::ask(const std::vector<std::string>& arguments) const {
  const Context context(redisConnectUnix(socket().c_str()));
  if (context == nullptr || context->err != 0) return "no connection";
  std::vector<const char*> words;
  std::vector<std::size_t> sizes;
  for (const std::string& argument : arguments) {
    words.push_back(argument.data());
    sizes.push_back(argument.size());
  }
  const std::unique_ptr<redisReply, FreeReply> reply(static_cast<redisReply*>(
      redisCommandArgv(context.get(), static_cast<int>(words.size()), words.data(), sizes.data())));
  return reply == nullptr ? "no reply" : text_of(*reply);
}

}  // namespace sluice::test
