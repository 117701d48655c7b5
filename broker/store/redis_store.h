// The Store over a real redis-server: one connection, driven by the loop.
// Connects again by itself with back-off. A reply that takes longer than 2 s ends the connection.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "broker/store/name_lookup.h"
#include "broker/store/redis_address.h"
#include "broker/store/redis_commands.h"
#include "broker/store/store.h"
#include "common/time.h"

struct redisAsyncContext;
struct redisReply;

namespace sluice {

struct RedisConfig {
  RedisAddress address;
  std::string password;               // from SLUICE_REDIS_PASSWORD or a file; never logged
  bool is_plaintext_allowed = false;  // to a Redis that is not on this machine
  Resolver resolver = resolve_host;
  // Why the process at the other end of this descriptor is not to be used, or nothing.
  std::function<std::string(int fd)> complaint = [](int) {
    return std::string();
  };
};

class RedisStore : public Store {
 public:
  explicit RedisStore(RedisConfig config)
      : config_(std::move(config)), lookup_(config_.address.host, config_.resolver) {}

  ~RedisStore() override;

  [[nodiscard]] Result<Opened> open(std::string owner,
                                    std::uint64_t epoch_min,
                                    const OpenProgress& progress) override;
  void send(StoreRequest request) override;
  void receive(std::vector<StoreReply>& replies) override;

  // ---- for the loop
  [[nodiscard]] int fd() const override;

  [[nodiscard]] bool wants_write() const override { return wants_write_; }

  void on_ready(bool is_readable, bool is_writable, Now now) override;
  [[nodiscard]] std::int64_t next_deadline_mono_ms() const override;

  [[nodiscard]] bool is_connected() const { return is_ready_; }

 private:
  enum class Kind : std::uint8_t {
    commit,
    project,
    take_over,
    read_log,
    fetch,
    list,
    list_jobs,
    job_log,
    logs,
    info,
    fsync,
    meta,
    epoch,
    other
  };

  // What one or several replies are the answer of, in the order sent.
  struct Waiting {
    Kind kind = Kind::other;
    std::uint64_t n = 0;
    std::size_t left = 1;  // replies still to come
    // Since when it is the first that waits, as tick() saw it.
    std::int64_t waits_since_ms = kNever;
    std::vector<JobId> ids{};
    FetchedJobs jobs{};
    FetchedList list{};
    Filter filter{};
    std::string refused{};
  };

  struct Hooks;  // what hiredis calls

  void on_readable();
  void on_writable();
  void tick(Now now);
  void connect();
  [[nodiscard]] bool connect_and_wait();
  void greet();
  void lost(std::string reason);
  void drop(std::string reason);
  void put(RespWriter& command);
  void expect(Waiting waiting);
  void put_other(RespWriter& command);
  void ask_health();
  void send_fetch(const FetchJobs& request);
  void send_list(const FetchList& request);

  void on_reply(redisReply* reply);
  void on_answer(Waiting& waiting, redisReply* reply);
  void on_refused(Waiting& waiting, std::string reason);
  void on_commit(const Waiting& waiting, redisReply* reply);
  void on_project(const Waiting& waiting, redisReply* reply);
  void on_take_over(const Waiting& waiting, redisReply* reply);
  void on_job(Waiting& waiting, redisReply* reply);
  void on_list(Waiting& waiting, redisReply* reply);
  void on_list_job(Waiting& waiting, redisReply* reply);
  void on_job_log(const Waiting& waiting, redisReply* reply);
  void on_logs(redisReply* reply);
  void on_meta(redisReply* reply);
  void say_health();

  RedisConfig config_;
  std::string owner_;
  NameLookup lookup_;
  redisAsyncContext* context_ = nullptr;
  bool is_ready_ = false;  // greeted: requests may be sent
  bool wants_write_ = false;
  bool is_in_callback_ = false;
  std::string drop_reason_;
  std::string lost_reason_;  // of the last connection
  std::string said_lost_;    // in the last StoreDisconnected
  std::deque<Waiting> waiting_;
  std::vector<StoreReply> replies_;
  std::string info_text_;
  RedisInfo info_;
  std::uint64_t stored_epoch_ = 0;
  StoreHealth health_;
  bool is_health_said_ = false;
  Now now_;
  std::int64_t connect_began_ms_ = 0;
  std::int64_t connect_again_ms_ = 0;
  std::int64_t back_off_ms_ = 0;
  std::int64_t health_due_ms_ = 0;
};

}  // namespace sluice
