// sluice-broker: reads its options, opens its store, binds its sockets, turns its loop.
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <system_error>

#include <zmq.hpp>

#include "broker/loop.h"
#include "broker/options.h"
#include "broker/store_choice.h"
#include "common/clock.h"
#include "common/config.h"
#include "common/exit_codes.h"
#include "common/log.h"
#include "common/process.h"

namespace {

using namespace sluice;

// Messages kept for one peer, in each direction.
constexpr int kProducerQueueMax = 1'000;
constexpr int kWorkerQueueMax = 10'000;

// This process as owner of the state: never the same twice.
std::string owner_name() {
  std::random_device random;
  char host[64] = {};
  (void)::gethostname(host, sizeof host - 1);
  return std::string(host) + ":" + std::to_string(::getpid()) + ":" + std::to_string(random());
}

// Binds one port. A port in use is asked for again for a moment, until a signal: a broker that was
// killed just now keeps its ports until the kernel has taken a large memory apart.
template <typename Bind>
auto bind_soon(int signals, Bind bind) {
  constexpr int kAgainMs = 100;
  constexpr std::int64_t kGiveUpMs = 2000;
  const std::int64_t until_ms = monotonic_ms() + kGiveUpMs;
  auto bound = bind();
  const auto is_in_use = [&] {
    return !bound && bound.error().code == ErrorCode::retry_later;
  };
  if (is_in_use())
    log::info("port_in_use", {{"where", bound.error().where}, {"action", "waiting"}});
  while (is_in_use() && monotonic_ms() < until_ms && !is_signalled(signals, kAgainMs))
    bound = bind();
  return bound;
}

Result<LoopSockets> bind_sockets(zmq::context_t& context,
                                 const BrokerOptions& options,
                                 int signals) {
  auto producers = bind_soon(signals, [&] {
    return RouterSocket::bind(context, options.producers, kProducerQueueMax);
  });
  if (!producers) return tl::unexpected(producers.error());
  auto workers = bind_soon(signals, [&] {
    return RouterSocket::bind(context, options.workers, kWorkerQueueMax);
  });
  if (!workers) return tl::unexpected(workers.error());
  auto events = bind_soon(signals, [&] { return EventsSocket::bind(context, options.events); });
  if (!events) return tl::unexpected(events.error());
  return LoopSockets{std::move(*producers), std::move(*workers), std::move(*events)};
}

int refuse(const Error& error, int exit_code) {
  log::error("start_refused", {{"where", error.where}, {"reason", error.detail}});
  return exit_code;
}

int run(const BrokerOptions& options, int signals) {
  zmq::context_t context(1);
  auto sockets = bind_sockets(context, options, signals);
  if (!sockets) return refuse(sockets.error(), kExitFailed);
  auto store = choose_store(options, signals);
  if (!store) return refuse(store.error(), exit_code_of(store.error()));
  const std::string owner = owner_name();
  auto opened = open_store(**store, owner, signals);
  if (!opened) {
    const int exit_code = refuse(opened.error(), exit_code_of(opened.error()));
    if (exit_code == kExitFenced) return (*store)->leave(), exit_code;
    return (*store)->stop({}) ? exit_code : kExitFailed;
  }

  EngineConfig config = engine_config(options);
  config.owner = owner;
  const Durability durability = opened->durability;
  config.core.durability = durability;
  bool has_jumped = false;
  SlewedClock clock(monotonic_ms(), wall_clock_ms());
  const Now now = clock.update(monotonic_ms(), wall_clock_ms(), has_jumped);
  const std::size_t jobs = opened->snapshot.jobs.size();
  for (const std::string& id : opened->unreadable)
    log::error(
        "job_unreadable",
        {{"job", id},
         {"detail",
          "an index of waiting or running jobs names it, and its hash can not be read or is in "
          "another state (look at HGETALL): it is not taken from there"}});
  Engine engine(std::move(config), *std::move(opened), now);
  log::info("ready",
            {{"producers", sockets->producers->endpoint()},
             {"workers", sockets->workers->endpoint()},
             {"events", sockets->events->endpoint()},
             {"epoch", engine.core().epoch()},
             {"jobs", jobs},
             {"durable", to_string(durability)},
             {"insecure", options.is_insecure}});
  int exit_code = Loop(engine, (*store)->store(), *sockets, signals).run();
  if (exit_code == kExitFenced)
    (*store)->leave();
  else if (!(*store)->stop(owner) && exit_code == kExitOk)
    exit_code = kExitFailed;
  log::info("stopped", {{"exit_code", exit_code}});
  return exit_code;
}

// Memory in huge pages where the system leaves it to the program (transparent_hugepage = madvise):
// a start with a million jobs is two thirds page faults without them. glibc takes the setting from
// the environment, at the start of a process only; so this one starts itself once more, with the
// same process id. Where that fails, or the environment has settings of its own, all stays as it
// is.
void use_huge_pages(char** argv) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  constexpr const char* kName = "GLIBC_TUNABLES";
  constexpr std::string_view kHugePages = "glibc.malloc.hugetlb=1";
  const char* const set = std::getenv(kName);
  if (set != nullptr) {
    if (set == kHugePages) ::unsetenv(kName);  // not for the processes that are started here
    return;
  }
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return;
  ::setenv(kName, kHugePages.data(), 1);
  ::execv(self.c_str(), argv);
  ::unsetenv(kName);
#else
  (void)argv;
#endif
}

// Batches come and go by the megabyte: their memory is kept, not given back and faulted in again
// page by page.
void keep_freed_memory() {
  constexpr int kKept = 64 << 20;
  mallopt(M_MMAP_THRESHOLD, kKept);
  mallopt(M_TRIM_THRESHOLD, kKept);
  mallopt(M_TOP_PAD, 4 << 20);
}

}  // namespace

int main(int argc, char** argv) {
  fill_closed_descriptors();
  use_huge_pages(argv);
  keep_freed_memory();
  BrokerOptions options;
  ConfigTable table(
      "sluice-broker",
      "Takes jobs from producers, keeps them safe in Redis, deals them to worker nodes.");
  describe(table, options);
  table.check_with([&]() -> Result<void> {
    if (auto checked = check(options); !checked) return checked;
    if (const auto password = read_password(options); !password)
      return tl::unexpected(password.error());
    return {};
  });
  const auto action = table.parse(argc, argv);
  if (!action) return table.explain(action.error());
  if (action->is_final) return action->exit_code;
  log::set_up(log_options(options));
  for (const std::string& line : table.effective())
    log::info("config", {{"option", line}});
  if (options.is_insecure)
    log::warn(
        "insecure",
        {{"reason", "no keys: whoever reaches the ports may submit, run and read every job"}});
  raise_descriptor_limit();
  try {
    (void)::signal(SIGPIPE, SIG_IGN);
    const StopSignals signals;
    return run(options, signals.fd());
  } catch (const std::exception& error) {
    log::error("start_failed", {{"reason", error.what()}});
    return kExitFailed;
  }
}
