// A server of a test that is a Python script beside this file, as a process of its own: it prints a
// line of JSON when it listens, and is killed with the object.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

extern char** environ;

namespace sluice {

class PythonServer {
 public:
  explicit PythonServer(const std::string& script, std::vector<std::string> arguments = {}) {
    // Debian's own: another that is first in PATH may be a script of many processes.
    constexpr const char* kPython = "/usr/bin/python3";
    const auto path = std::filesystem::path(__FILE__).parent_path() / script;
    std::vector<std::string> words = {kPython, "-B", path.string()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words)
      argv.push_back(word.data());
    argv.push_back(nullptr);
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    EXPECT_EQ(::posix_spawn(&pid_, kPython, &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    std::string line;
    for (char c = 0; ::read(ends[0], &c, 1) == 1 && c != '\n';)
      line += c;
    ::close(ends[0]);
    said_ = nlohmann::json::parse(line, nullptr, false);
    EXPECT_TRUE(said_.is_object()) << script << " said: " << line;
  }

  ~PythonServer() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  PythonServer(const PythonServer&) = delete;
  PythonServer& operator=(const PythonServer&) = delete;

  // What it printed.
  [[nodiscard]] const nlohmann::json& said() const { return said_; }

 private:
  pid_t pid_ = 0;
  nlohmann::json said_;
};

}  // namespace sluice
