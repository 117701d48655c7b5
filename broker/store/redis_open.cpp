// RedisStore::open(): everything a broker needs to start, read over a blocking connection of its
// own.
#include <poll.h>

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>

#include <hiredis/hiredis.h>

#include "broker/store/function_library.h"
#include "broker/store/job_fields.h"
#include "broker/store/keys.h"
#include "broker/store/redis_reply.h"
#include "broker/store/redis_store.h"
#include "broker/store/replay.h"
#include "common/clock.h"

namespace sluice {

namespace {

constexpr std::size_t kPage = 1000;  // jobs asked for at once
constexpr std::size_t kUnreadableMax = 100;
constexpr std::size_t kIndexPage = 10'000;
constexpr std::size_t kIndexesAtOnce = 100;
constexpr int kConnectWaitMs = 1000;

struct FreeContext {
  void operator()(redisContext* context) const { redisFree(context); }
};

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};

using ReplyPtr = std::unique_ptr<redisReply, FreeReply>;

// Reads the array of a HGETALL straight into fields, over those of the job before. hiredis makes
// two objects of every element, and of a million jobs that is most of a start.
class PairReader {
 public:
  explicit PairReader(FieldPairs& pairs) : pairs_(pairs) {}

  // The next reply of the connection, as `next` reads it; what that returns.
  template <typename Next>
  [[nodiscard]] bool read(redisContext& context, Next next) {
    redisReplyObjectFunctions functions{string, array, integer, nil, nothing};
    redisReader& reader = *context.reader;
    auto* const usual = std::exchange(reader.fn, &functions);
    auto* const usual_data = std::exchange(reader.privdata, this);
    const bool is_read = next();
    reader.fn = usual;
    reader.privdata = usual_data;
    pairs_.resize(count_);
    return is_read;
  }

  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  static PairReader* self(const redisReadTask* task) {
    return static_cast<PairReader*>(task->privdata);
  }

  static void* string(const redisReadTask* task, char* text, std::size_t size) {
    if (task->type == REDIS_REPLY_ERROR)
      self(task)->error_.assign(text, size);
    else
      self(task)->take({text, size});
    return self(task);
  }

  static void* array(const redisReadTask* task, int) { return self(task); }

  static void* integer(const redisReadTask* task, long long) { return self(task); }

  static void* nil(const redisReadTask* task) { return self(task); }

  static void nothing(void*) {}

  void take(std::string_view text) {
    if (std::exchange(is_value_next_, !is_value_next_)) {
      pairs_[count_ - 1].second = text;
      return;
    }
    if (count_ == pairs_.size()) pairs_.emplace_back();
    pairs_[count_++].first = text;
  }

  FieldPairs& pairs_;
  std::size_t count_ = 0;  // of `pairs_`, of this job
  std::string error_;
  bool is_value_next_ = false;
};

// Throws nothing; the first failure is kept and every later answer is empty.
class Connection {
 public:
  // `progress` is asked while it waits, see OpenProgress; must outlive the connection.
  Connection(const RedisConfig& config, const std::string& host, const OpenProgress& progress)
      : progress_(progress) {
    const RedisAddress& address = config.address;
    const timeval connect_time{1, 0};
    context_.reset(address.path.empty()
                       ? redisConnectWithTimeout(host.c_str(), address.port, connect_time)
                       : redisConnectUnixWithTimeout(address.path.c_str(), connect_time));
    if (context_ == nullptr || context_->err != 0)
      fail(context_ == nullptr ? "no memory" : reason());
    else if (std::string complaint = config.complaint(context_->fd); !complaint.empty())
      fail(std::move(complaint));
    else
      redisSetTimeout(context_.get(), {kAnswerMs / 1000, 0});
  }

  void put(RespWriter&& command) {
    const std::string_view text = command.text();
    if (error_.empty()) redisAppendFormattedCommand(context_.get(), text.data(), text.size());
  }

  ReplyPtr get() {
    void* reply = nullptr;
    if (!next_reply(&reply)) return nullptr;
    ReplyPtr owned(static_cast<redisReply*>(reply));
    if (owned->type == REDIS_REPLY_ERROR && !is_lenient_) fail(text_of(owned.get()));
    return owned;
  }

  // The same, of a HGETALL. False after a failure; `pairs` is nothing then.
  [[nodiscard]] bool get_pairs(FieldPairs& pairs) {
    PairReader reader(pairs);
    void* token = nullptr;
    const bool is_read =
        error_.empty() && reader.read(*context_, [&] { return next_reply(&token); });
    if (is_read && !reader.error().empty() && !reader.error().starts_with("WRONGTYPE"))
      fail(reader.error());  // a foreign key is set aside by the round that meets it
    return error_.empty();
  }

  ReplyPtr ask(RespWriter&& command) {
    put(std::move(command));
    return get();
  }

  // A command that another's Redis may forbid.
  ReplyPtr try_ask(RespWriter&& command) {
    is_lenient_ = true;
    ReplyPtr reply = ask(std::move(command));
    is_lenient_ = false;
    return reply;
  }

  void give_up() { fail("reading was given up"); }

  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  void fail(std::string reason) {
    if (error_.empty()) error_ = std::move(reason);
  }

  // redisGetReply, but that whoever waits for us can say that it waits no more.
  bool next_reply(void** reply) {
    if (!error_.empty()) return false;
    int is_written = 0;
    while (is_written == 0)
      if (redisBufferWrite(context_.get(), &is_written) != REDIS_OK) return fail_to_read();
    while (true) {
      if (redisGetReplyFromReader(context_.get(), reply) != REDIS_OK) return fail_to_read();
      if (*reply != nullptr) return true;
      if (!wait_for_more()) return false;
      if (redisBufferRead(context_.get()) != REDIS_OK) return fail_to_read();
    }
  }

  bool fail_to_read() {
    fail(reason());
    return false;
  }

  // Also one who sends byte by byte does not keep us from being asked.
  bool wait_for_more() {
    const std::int64_t begun_ms = monotonic_ms();
    while (true) {
      pollfd item{context_->fd, POLLIN, 0};
      const bool is_there = ::poll(&item, 1, kLookMs) > 0;
      if (monotonic_ms() - asked_ms_ >= kLookMs) {
        asked_ms_ = monotonic_ms();
        if (!progress_(0)) {
          give_up();
          return false;
        }
      }
      if (is_there) return true;
      if (monotonic_ms() - begun_ms >= kAnswerMs) break;
    }
    fail("it gives no answer");
    return false;
  }

  // hiredis has the system's text for a time that is over.
  [[nodiscard]] std::string reason() const {
    const std::string_view text = context_->errstr;
    return std::string(text == "Resource temporarily unavailable" ? "it gives no answer" : text);
  }

  static constexpr int kAnswerMs = 10'000;
  static constexpr int kLookMs = 100;

  const OpenProgress& progress_;
  std::int64_t asked_ms_ = monotonic_ms();
  std::unique_ptr<redisContext, FreeContext> context_;
  std::string error_;
  bool is_lenient_ = false;
};

RespWriter words(std::initializer_list<std::string_view> arguments) {
  RespWriter command;
  for (const std::string_view argument : arguments)
    command.add(argument);
  return command;
}

tl::unexpected<Error> away(const Connection& connection) {
  const std::string& text = connection.error();
  const bool is_denied = text.starts_with("NOAUTH") || text.starts_with("WRONGPASS") ||
                         text.starts_with("NOPERM") || text.find("invalid password") != text.npos;
  return fail(is_denied ? ErrorCode::denied : ErrorCode::store_unavailable, "redis", text);
}

void read_log(Connection& connection, Opened& opened) {
  std::uint64_t next = opened.snapshot.checkpoint + 1;
  while (connection.error().empty()) {
    const ReplyPtr page = connection.ask(words({"XRANGE",
                                                keys::kLog,
                                                std::to_string(next) + "-0",
                                                "+",
                                                "COUNT",
                                                std::to_string(kLogPage)}));
    if (page == nullptr || page->elements == 0) return;
    for (LogEntryPtr& entry : entries_of(page.get()))
      opened.unprojected.push_back(std::move(entry));
    next = opened.unprojected.back()->n + 1;
    if (page->elements < kLogPage) return;
  }
}

// An id as it stands in an index. A job stands in one, that of its state; what a person has put
// into another is not read again from there.
struct Indexed {
  std::string id;
  const std::string* index;
};

// The jobs of these ids. The next page is asked for before the one that has come is read, so that
// Redis and we work at the same time.
void read_jobs(Connection& connection,
               const std::vector<Indexed>& ids,
               const OpenProgress& progress,
               Opened& opened) {
  std::deque<Job>& jobs = opened.snapshot.jobs;
  FieldPairs pairs;
  std::size_t asked = 0;
  const auto ask_page = [&] {
    for (const std::size_t end = std::min(ids.size(), asked + kPage); asked < end; ++asked)
      connection.put(words({"HGETALL", keys::job(ids[asked].id)}));
  };
  ask_page();
  for (std::size_t i = 0; i < ids.size() && connection.error().empty(); ++i) {
    if (i % kPage == 0) {
      if (!progress(jobs.size())) return connection.give_up();
      ask_page();
    }
    if (!connection.get_pairs(pairs)) return;
    auto job = from_fields(ids[i].id, pairs);
    if (job && keys::index(job->state, job->spec.queue) == *ids[i].index)
      jobs.push_back(std::move(*job));
    else if (opened.unreadable.size() < kUnreadableMax)
      opened.unreadable.push_back(ids[i].id);
  }
}

// The jobs of these indexes, of many of them with one round trip.
void read_indexes(Connection& connection,
                  const std::vector<std::string>& indexes,
                  const OpenProgress& progress,
                  Opened& opened) {
  std::vector<const std::string*> left, longer;
  for (const std::string& index : indexes)
    left.push_back(&index);
  std::size_t start = 0;  // in each index that is left
  while (!left.empty() && connection.error().empty()) {
    std::vector<Indexed> ids;
    for (std::size_t first = 0; first < left.size(); first += kIndexesAtOnce) {
      const std::size_t end = std::min(left.size(), first + kIndexesAtOnce);
      for (std::size_t i = first; i < end; ++i)
        connection.put(words(
            {"ZRANGE", *left[i], std::to_string(start), std::to_string(start + kIndexPage - 1)}));
      for (std::size_t i = first; i < end; ++i) {
        const ReplyPtr page = connection.get();
        if (page == nullptr) return;
        for (std::size_t at = 0; at < page->elements; ++at)
          ids.push_back({text_at(page.get(), at), left[i]});
        if (page->elements == kIndexPage) longer.push_back(left[i]);
      }
      read_jobs(connection, std::exchange(ids, {}), progress, opened);
    }
    left = std::exchange(longer, {});
    start += kIndexPage;
  }
}

void read_queues(Connection& connection, Snapshot& snapshot) {
  const ReplyPtr queues = connection.ask(words({"HGETALL", keys::kQueues}));
  std::unordered_map<std::string, std::string> stats;
  for (auto& [field, value] : pairs_of(connection.ask(words({"HGETALL", keys::kStats})).get()))
    stats.emplace(std::move(field), std::move(value));
  for (auto& [name, setting] : pairs_of(queues.get())) {
    QueueRecord queue;
    queue.name = name;
    queue.is_paused = setting == "paused";
    visit_totals(
        [&](unsigned, const char* total, std::uint64_t& value) {
          const auto found = stats.find(queue.name + ":" + total);
          if (found != stats.end()) value = number_of_text(found->second);
        },
        queue.totals);
    snapshot.queues.push_back(std::move(queue));
  }
}

// Whether an ended job of these queues is kept.
bool has_ended_jobs(Connection& connection, const std::vector<QueueRecord>& queues) {
  constexpr std::array kEnded{JobState::completed, JobState::failed, JobState::cancelled};
  bool found = false;
  for (std::size_t first = 0; first < queues.size() && !found; first += kIndexesAtOnce) {
    const std::size_t end = std::min(queues.size(), first + kIndexesAtOnce);
    for (std::size_t i = first; i < end; ++i)
      for (const JobState state : kEnded)
        connection.put(words({"ZCARD", keys::index(state, queues[i].name)}));
    for (std::size_t i = first * kEnded.size(); i < end * kEnded.size(); ++i)
      if (number_of_text(text_of(connection.get().get())) > 0) found = true;
  }
  return found;
}

void read_view(Connection& connection, const OpenProgress& progress, Opened& opened) {
  Snapshot& snapshot = opened.snapshot;
  read_queues(connection, snapshot);
  snapshot.has_cold_jobs = has_ended_jobs(connection, snapshot.queues);
  std::vector<std::string> indexes{keys::index(JobState::pending, {}),
                                   keys::index(JobState::running, {})};
  for (const QueueRecord& queue : snapshot.queues)
    indexes.push_back(keys::index(JobState::queued, queue.name));
  read_indexes(connection, indexes, progress, opened);
}

void read_ended_chunks(Connection& connection, Opened& opened) {
  const ReplyPtr range =
      connection.ask(words({"HMGET", keys::kMeta, "ended_first", "ended_next", "next_sequence"}));
  opened.ended_chunk_first = number_at(range.get(), 0);
  opened.ended_chunk_next = number_at(range.get(), 1);
  opened.snapshot.next_sequence = std::max<std::uint64_t>(1, number_at(range.get(), 2));
  std::uint64_t asked = opened.ended_chunk_first;
  const auto ask_one = [&] {
    if (asked < opened.ended_chunk_next) connection.put(words({"GET", keys::ended(asked++)}));
  };
  ask_one();
  for (std::uint64_t n = opened.ended_chunk_first; n < opened.ended_chunk_next; ++n) {
    ask_one();
    read_ended(text_of(connection.get().get()), opened.snapshot.ended);
  }
}

void log_in(Connection& connection, const RedisConfig& config) {
  if (!config.password.empty()) {
    RespWriter auth;
    auth.add("AUTH");
    if (!config.address.user.empty()) auth.add(config.address.user);
    auth.add(config.password);
    (void)connection.ask(std::move(auth));
  }
  if (config.address.db != 0)
    (void)connection.ask(words({"SELECT", std::to_string(config.address.db)}));
}

}  // namespace

Result<Opened> RedisStore::open(std::string owner,
                                std::uint64_t epoch_min,
                                const OpenProgress& progress) {
  owner_ = std::move(owner);
  const RedisAddress& address = config_.address;
  if (!address.is_local() && !config_.is_plaintext_allowed)
    return fail(ErrorCode::bad_field, "redis", plaintext_refusal(address));
  if (!address.host.empty()) lookup_.look_up();
  Connection connection(config_, lookup_.address(), progress);
  log_in(connection, config_);
  const ReplyPtr info = connection.ask(words({"INFO"}));
  const ReplyPtr fsync = connection.try_ask(words({"CONFIG", "GET", "appendfsync"}));
  if (!connection.error().empty()) return away(connection);
  info_ = read_info(text_of(info.get()), text_at(fsync.get(), 1));
  if (!info_.unsafe.empty()) return fail(ErrorCode::bad_field, "redis", info_.unsafe);
  if (info_.is_loading)
    return fail(ErrorCode::store_unavailable, "redis", "it is still loading its data");

  (void)connection.ask(words({"FUNCTION", "LOAD", "REPLACE", function_library()}));
  RespWriter read_meta;
  write_read_meta(read_meta);
  const StoreMeta meta = meta_at(connection.try_ask(std::move(read_meta)).get(), 0);
  if (meta.exists && meta.layout > keys::kLayout)
    return fail(ErrorCode::bad_field,
                "redis",
                "the state has layout " + std::to_string(meta.layout) +
                    ", made by a newer sluice-broker: start that one");
  RespWriter take_over;
  write_take_over(take_over, {.epoch = std::max(meta.epoch + 1, epoch_min)}, owner_);
  const ReplyPtr took = connection.ask(std::move(take_over));
  if (!connection.error().empty()) return away(connection);
  if (text_at(took.get(), 0) != "1")
    return fail(ErrorCode::store_unavailable, "redis", "another broker took over just now");

  Opened opened;
  const StoreMeta taken = meta_at(took.get(), 1);
  opened.run_id = info_.run_id;
  opened.durability = info_.durability;
  opened.replaced_epoch = meta.epoch;
  opened.snapshot.epoch = taken.epoch;
  opened.snapshot.last = taken.last;
  opened.snapshot.checkpoint = taken.checkpoint;
  read_ended_chunks(connection, opened);
  read_view(connection, progress, opened);
  read_log(connection, opened);
  const auto error = replay_log(opened, [&](const JobId& id) -> std::optional<std::string> {
    const ReplyPtr reply = connection.ask(words({"HGET", keys::job(id.view()), "payload"}));
    if (!reply || reply->type != REDIS_REPLY_STRING) return std::nullopt;
    return text_of(reply.get());
  });
  if (!connection.error().empty()) return away(connection);
  if (error) return tl::unexpected(*error);
  if (!connect_and_wait())
    return fail(ErrorCode::store_unavailable, "redis", "no second connection: " + lost_reason_);
  return opened;
}

// The running connection is ready when open() returns, so that nothing sent can be lost unsaid.
bool RedisStore::connect_and_wait() {
  drop("opening again");
  replies_.clear();
  waiting_.clear();
  is_health_said_ = false;
  connect();
  for (int turns = 0; turns < 1000 && context_ != nullptr && !is_ready_; ++turns) {
    const auto events = static_cast<short>(POLLIN | (wants_write_ ? POLLOUT : 0));
    pollfd poll_fd{fd(), events, 0};
    if (poll(&poll_fd, 1, kConnectWaitMs) <= 0) break;
    if ((poll_fd.revents & POLLOUT) != 0) on_writable();
    if ((poll_fd.revents & (POLLIN | POLLHUP | POLLERR)) != 0) on_readable();
  }
  std::erase_if(replies_, [](const StoreReply& reply) {
    return !std::holds_alternative<StoreHealth>(reply);
  });
  return is_ready_;
}

}  // namespace sluice
