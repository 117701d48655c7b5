// One task of kind `http`, "call", and jobs of it, driven as the node's loop drives them: waiting
// is always for an event. And what this process has open of descriptors and connections.
#pragma once

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/clock.h"
#include "tests/support/http_server.h"
#include "worker/tasks/http.h"

namespace sluice::http_job {

using Values = std::map<std::string, TaskSettings::Value>;

inline void add_task(HttpRuntimeBuilder& builder, const std::string& name, Values values) {
  TaskSettings settings(name, std::move(values));
  const auto added = builder.add(settings);
  EXPECT_TRUE(added) << added.error().detail;
  EXPECT_FALSE(settings.untaken());
}

inline std::unique_ptr<Runtime> runtime_with(Values values, bool allows_loopback = true) {
  if (allows_loopback) values["allow"] = TaskSettings::Texts{"127.0.0.0/8"};
  HttpRuntimeBuilder builder;
  add_task(builder, "call", std::move(values));
  return builder.build();
}

inline Assignment assignment_of(const std::string& payload,
                                const std::string& id = "job-1",
                                const std::string& task = "call") {
  Assignment assignment;
  assignment.job.id = JobId(id);
  assignment.job.fence = {7, 1};
  assignment.job.task = task;
  assignment.job.content_type = "application/json";
  assignment.job.payload = payload;
  return assignment;
}

// The results of `count` attempts, and what they wrote to their logs; the long time-out only ends a
// test that hangs.
inline std::vector<AttemptResult> wait_for(Runtime& runtime,
                                           std::size_t count,
                                           std::string* log = nullptr) {
  std::vector<AttemptResult> results;
  while (results.size() < count) {
    const std::int64_t due = runtime.next_deadline_mono_ms();
    const std::int64_t wait_ms =
        due == kNever ? 60'000 : std::max<std::int64_t>(due - clock_now().mono_ms, 0);
    pollfd ready{runtime.fd(), POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(wait_ms)) <= 0 && due == kNever) break;
    std::vector<RuntimeEvent> events;
    runtime.poll(clock_now(), events);
    for (RuntimeEvent& event : events)
      if (const auto* said = std::get_if<AttemptLog>(&event); said == nullptr)
        results.push_back(std::move(std::get<AttemptDone>(event).result));
      else if (log != nullptr)
        *log += said->bytes;
  }
  EXPECT_EQ(results.size(), count);
  return results;
}

inline AttemptResult wait_for(Runtime& runtime, std::string* log = nullptr) {
  const auto results = wait_for(runtime, 1, log);
  return results.empty() ? AttemptResult{} : results.front();
}

inline AttemptResult run(Runtime& runtime, Assignment assignment) {
  runtime.start(std::move(assignment));
  return wait_for(runtime);
}

inline AttemptResult run(const std::string& payload,
                         Values values = {},
                         bool allows_loopback = true) {
  return run(*runtime_with(std::move(values), allows_loopback), assignment_of(payload));
}

inline std::string get(const std::string& url) {
  return R"({"url":")" + url + R"("})";
}

inline std::string get(const HttpServer& server) {
  return get(server.url());
}

// Both ends of every connection are ours. Raises the limit as far as it goes; whether it suffices.
inline bool can_have_open(rlim_t connection_count) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  return files.rlim_max >= 2 * connection_count + 100;
}

inline std::vector<int> open_descriptors() {
  std::vector<int> open;
  DIR* folder = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(folder))
    if (entry->d_name[0] != '.' && std::atoi(entry->d_name) != ::dirfd(folder))
      open.push_back(std::atoi(entry->d_name));
  ::closedir(folder);
  return open;
}

// Our ends of connections to a port of this machine.
inline std::size_t connections_to(int port) {
  const auto open = open_descriptors();
  return static_cast<std::size_t>(std::ranges::count_if(open, [port](int fd) {
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    return ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
           peer.sin_family == AF_INET && ntohs(peer.sin_port) == port;
  }));
}

// Nothing that the test has opened is open after it.
class NoDescriptorLeft : public testing::Test {
 protected:
  void SetUp() override {
    // What libcurl and the C library open once and keep.
    static const AttemptResult first = run(get("http://127.0.0.1:1/"));
    (void)first;
    before_ = open_descriptors();
  }

  void TearDown() override { EXPECT_EQ(open_descriptors(), before_); }

 private:
  std::vector<int> before_;
};

}  // namespace sluice::http_job
