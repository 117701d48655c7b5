// What thousands of HTTP calls at once cost a node: http-bench in a release build. The http runtime
// is driven directly, without a broker; beside it stands a plain loop over libcurl's multi
// interface against the same server, in the same run. Each round is a process of its own, whose
// peak memory is read when it ends. Every row: median (least - most) of the rounds.
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <curl/curl.h>

#include "common/clock.h"
#include "worker/tasks/http.h"

namespace {

using namespace sluice;

constexpr int kRounds = 5;
constexpr double kCallMs = 1000;
constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    "12\r\n\r\n{\"ok\":true}\n";

double now_ms() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

// ---------------------------------------------------------------- the server

// Answers every request a second after it came, in one process, for as long as its parent lives.
// (The requests are in the order of their times, so a queue and one timer are enough.)
class Server {
 public:
  explicit Server(int listener) : listener_(listener) {
    watch(listener_);
    watch(timer_);
  }

  [[noreturn]] void serve() {
    std::array<epoll_event, 512> ready{};
    for (;;) {
      const int count = ::epoll_wait(epoll_, ready.data(), ready.size(), 1000);
      if (::getppid() == 1) ::_exit(0);
      for (int i = 0; i < count; ++i) {
        const int fd = ready[static_cast<std::size_t>(i)].data.fd;
        if (fd == listener_)
          accept_all();
        else if (fd == timer_)
          answer_due();
        else
          read(fd);
      }
    }
  }

 private:
  struct Due {
    double at_ms;
    int fd;
  };

  void watch(int fd) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  void accept_all() {
    for (int fd; (fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
      watch(fd);
  }

  // A request of the benchmark comes in one piece and has no body.
  void read(int fd) {
    std::array<char, 4096> buffer{};
    if (::read(fd, buffer.data(), buffer.size()) <= 0) {
      ::close(fd);
      std::erase_if(due_, [fd](const Due& due) { return due.fd == fd; });
      return;
    }
    due_.push_back({now_ms() + kCallMs, fd});
    if (due_.size() == 1) arm();
  }

  void answer_due() {
    std::uint64_t expirations = 0;
    (void)!::read(timer_, &expirations, sizeof expirations);
    for (const double now = now_ms(); !due_.empty() && due_.front().at_ms <= now; due_.pop_front())
      (void)!::send(due_.front().fd, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL);
    if (!due_.empty()) arm();
  }

  void arm() {
    const auto at_ns = static_cast<long long>(due_.front().at_ms * 1e6);
    itimerspec when{};
    when.it_value = {at_ns / 1'000'000'000, at_ns % 1'000'000'000};
    ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
  }

  int listener_;
  int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  int timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  std::deque<Due> due_;
};

// The process of a server on the loopback, ended with this one.
class ServerProcess {
 public:
  ServerProcess() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0) std::abort();
    if (::listen(listener_, 8192) != 0) std::abort();
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
    pid_ = ::fork();
    if (pid_ == 0) Server(listener_).serve();
  }

  ~ServerProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::close(listener_);
  }

  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  [[nodiscard]] const std::string& url() const { return url_; }

 private:
  int listener_;
  pid_t pid_ = 0;
  std::string url_;
};

// ---------------------------------------------------------------- the clients

// Milliseconds until all have been answered, by libcurl's own loop and nothing else.
double plain_calls(const std::string& url, int count) {
  const double begun = now_ms();
  CURLM* multi = curl_multi_init();
  std::vector<CURL*> calls;
  for (int i = 0; i < count; ++i) {
    CURL* call = curl_easy_init();
    curl_easy_setopt(call, CURLOPT_URL, url.c_str());
    curl_easy_setopt(call, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(
        call,
        CURLOPT_WRITEFUNCTION,
        +[](char*, std::size_t size, std::size_t n, void*) -> std::size_t { return size * n; });
    curl_multi_add_handle(multi, call);
    calls.push_back(call);
  }
  int done = 0;
  for (int running = count; running > 0;) {
    if (curl_multi_perform(multi, &running) != CURLM_OK) std::abort();
    if (running > 0 && curl_multi_poll(multi, nullptr, 0, 1000, nullptr) != CURLM_OK) std::abort();
  }
  for (int left = 0; const CURLMsg* message = curl_multi_info_read(multi, &left);)
    done += message->msg == CURLMSG_DONE && message->data.result == CURLE_OK ? 1 : 0;
  if (done != count) std::abort();
  const double took = now_ms() - begun;
  for (CURL* call : calls) {
    curl_multi_remove_handle(multi, call);
    curl_easy_cleanup(call);
  }
  curl_multi_cleanup(multi);
  return took;
}

// The same by jobs of the http runtime.
double jobs(const std::string& url, int count) {
  TaskSettings settings("call", {{"allow", TaskSettings::Texts{"127.0.0.0/8"}}});
  HttpRuntimeBuilder builder;
  if (!builder.add(settings)) std::abort();
  const auto runtime = builder.build();
  const double begun = now_ms();
  for (int i = 0; i < count; ++i) {
    Assignment assignment;
    assignment.job.id = JobId("job-" + std::to_string(i));
    assignment.job.fence = {7, 1};
    assignment.job.task = "call";
    assignment.job.content_type = "application/json";
    assignment.job.payload = R"({"url":")" + url + R"("})";
    runtime->start(std::move(assignment));
  }
  std::vector<RuntimeEvent> events;
  int done = 0;
  while (done < count) {
    pollfd item{runtime->fd(), POLLIN, 0};
    if (::poll(&item, 1, 60'000) <= 0) std::abort();
    events.clear();
    runtime->poll(clock_now(), events);
    for (const RuntimeEvent& event : events)
      if (const auto* ended = std::get_if<AttemptDone>(&event)) {
        if (ended->result.outcome != Outcome::completed) {
          std::fprintf(stderr, "a call failed: %s\n", ended->result.error.c_str());
          std::abort();
        }
        ++done;
      }
  }
  return now_ms() - begun;
}

// ---------------------------------------------------------------- rounds

struct Figures {
  double ms = 0;
  double cpu_ms = 0;  // of the calling process, the server's not counted
  double peak_mib = 0;
};

double ms_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
}

// In a process of its own: what an earlier round has allocated is not in its figures.
Figures in_a_process(const std::function<double()>& measure) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) std::abort();
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    Figures figures{.ms = measure()};
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    figures.cpu_ms = ms_of(usage.ru_utime) + ms_of(usage.ru_stime);
    figures.peak_mib = static_cast<double>(usage.ru_maxrss) / 1024;
    (void)!::write(ends[1], &figures, sizeof figures);
    ::_exit(0);
  }
  ::close(ends[1]);
  Figures figures;
  const bool came = ::read(ends[0], &figures, sizeof figures) == sizeof figures;
  ::close(ends[0]);
  ::waitpid(pid, nullptr, 0);
  if (!came) std::exit(1);
  return figures;
}

struct Row {
  std::vector<Figures> rounds;

  void print(const char* what) {
    const auto line = [&](const char* unit, double Figures::*member) {
      std::ranges::sort(rounds, {}, member);
      std::printf("%-44s %9.1f (%.1f - %.1f) %s\n",
                  what,
                  rounds[rounds.size() / 2].*member,
                  rounds.front().*member,
                  rounds.back().*member,
                  unit);
    };
    line("ms", &Figures::ms);
    line("ms of CPU", &Figures::cpu_ms);
    line("MiB at its peak", &Figures::peak_mib);
    std::fflush(stdout);
  }
};

void raise_descriptor_limit(rlim_t wanted) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= wanted) return;
  std::fprintf(stderr,
               "http-bench needs %llu descriptors and may have %llu: ulimit -Hn\n",
               static_cast<unsigned long long>(wanted),
               static_cast<unsigned long long>(limit.rlim_cur));
  std::exit(2);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    std::puts(
        "Measures the http runtime of a node; takes no arguments. tests/bench/README.md says what "
        "the rows are.");
    return std::string_view(argv[1]) == "--help" ? 0 : 2;
  }
  constexpr int kMany = 5000;
  raise_descriptor_limit(kMany + 100);
  curl_global_init(CURL_GLOBAL_DEFAULT);
  const ServerProcess server;
  for (const int count : {100, kMany}) {
    Row plain;
    Row ours;
    for (int round = 0; round < kRounds; ++round) {  // in turn, for the machine's pace changes
      plain.rounds.push_back(in_a_process([&] { return plain_calls(server.url(), count); }));
      ours.rounds.push_back(in_a_process([&] { return jobs(server.url(), count); }));
    }
    const std::string calls = std::to_string(count) + " calls of a second";
    plain.print((calls + ", libcurl alone").c_str());
    ours.print((calls + ", as jobs").c_str());
  }
  return 0;
}
