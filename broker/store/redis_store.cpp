#include "broker/store/redis_store.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <utility>

#include <hiredis/async.h>

#include "broker/store/function_library.h"
#include "broker/store/keys.h"
#include "broker/store/redis_reply.h"
#include "broker/store/view_row.h"

namespace sluice {

namespace {

constexpr std::int64_t kConnectMs = 1000;
constexpr std::int64_t kReplyMs = 2000;
constexpr std::int64_t kBackOffMs = 100;
// P6: a second after Redis is back, jobs are dealt again.
constexpr std::int64_t kBackOffMaxMs = 250;
constexpr std::int64_t kHealthMs = 1000;

}  // namespace

// hiredis calls back through these; `data` of the context is the store.
struct RedisStore::Hooks {
  static RedisStore& store(const redisAsyncContext* context) {
    return *static_cast<RedisStore*>(context->data);
  }

  static void reply(redisAsyncContext* context, void* reply, void*) {
    // No reply: the connection is going, and lost() speaks for all that waits.
    if (reply != nullptr) store(context).on_reply(static_cast<redisReply*>(reply));
  }

  static void connected(const redisAsyncContext* context, int status) {
    if (status == REDIS_OK) return store(context).greet();
    RedisStore& self = store(context);
    self.context_ = nullptr;  // hiredis frees it
    self.lost(context->errstr != nullptr ? context->errstr : "can not connect");
  }

  static void disconnected(const redisAsyncContext* context, int) {
    RedisStore& self = store(context);
    self.context_ = nullptr;
    self.lost(context->errstr != nullptr && *context->errstr != 0 ? context->errstr
                                                                  : self.drop_reason_);
  }

  static void add_write(void* self) { static_cast<RedisStore*>(self)->wants_write_ = true; }

  static void del_write(void* self) { static_cast<RedisStore*>(self)->wants_write_ = false; }

  static void nothing(void*) {}
};

RedisStore::~RedisStore() {
  drop("closing");
}

// ---------------------------------------------------------------- the connection

int RedisStore::fd() const {
  return context_ == nullptr ? -1 : context_->c.fd;
}

void RedisStore::connect() {
  connect_began_ms_ = now_.mono_ms;
  const RedisAddress& address = config_.address;
  context_ = address.path.empty() ? redisAsyncConnect(lookup_.address().c_str(), address.port)
                                  : redisAsyncConnectUnix(address.path.c_str());
  if (context_ == nullptr) return lost("no memory for a connection");
  context_->data = this;
  context_->ev.data = this;
  context_->ev.addRead = context_->ev.delRead = context_->ev.cleanup = Hooks::nothing;
  context_->ev.addWrite = Hooks::add_write;
  context_->ev.delWrite = Hooks::del_write;
  wants_write_ = true;
  if (context_->err != 0) return drop(context_->errstr);
  if (std::string complaint = config_.complaint(context_->c.fd); !complaint.empty())
    return drop(std::move(complaint));
  redisAsyncSetConnectCallback(context_, Hooks::connected);
  redisAsyncSetDisconnectCallback(context_, Hooks::disconnected);
}

// The first commands of a connection. The answer to the last one makes it ready.
void RedisStore::greet() {
  if (!config_.password.empty()) {
    RespWriter auth;
    auth.add("AUTH");
    if (!config_.address.user.empty()) auth.add(config_.address.user);
    put_other(auth.add(config_.password));
  }
  RespWriter select, load;
  if (config_.address.db != 0)
    put_other(select.add("SELECT").add_number(std::int64_t{config_.address.db}));
  put_other(load.add("FUNCTION").add("LOAD").add("REPLACE").add(function_library()));
  ask_health();
  RespWriter meta;
  write_read_meta(meta);
  expect({.kind = Kind::meta});
  put(meta);
}

void RedisStore::lost(std::string reason) {
  context_ = nullptr;
  wants_write_ = false;
  lost_reason_ = reason;
  waiting_.clear();
  // Mostly answered before the next attempt, else used by the one after it.
  if (!config_.address.host.empty()) lookup_.begin();
  back_off_ms_ = back_off_ms_ == 0 ? kBackOffMs : std::min(back_off_ms_ * 2, kBackOffMaxMs);
  connect_again_ms_ = now_.mono_ms + back_off_ms_;
  // Said again when it cannot come back for another reason: first refused, then LOADING.
  if (!std::exchange(is_ready_, false) && said_lost_ == reason) return;
  said_lost_ = reason;
  replies_.emplace_back(StoreDisconnected{std::move(reason)});
}

// Ends the connection; never from inside a callback of hiredis, which still uses the context then.
void RedisStore::drop(std::string reason) {
  if (context_ == nullptr) return;
  drop_reason_ = std::move(reason);
  if (is_in_callback_) return;
  // Freeing a connected one calls disconnected(), and so lost(); any other goes silently.
  redisAsyncFree(context_);
  if (context_ != nullptr) lost(drop_reason_);
  drop_reason_.clear();
}

void RedisStore::on_ready(bool is_readable, bool is_writable, Now now) {
  now_ = now;
  if (is_writable) on_writable();
  if (is_readable) on_readable();
  tick(now);
}

void RedisStore::on_readable() {
  if (context_ == nullptr) return;
  is_in_callback_ = true;
  redisAsyncHandleRead(context_);
  is_in_callback_ = false;
  if (!drop_reason_.empty()) drop(drop_reason_);
}

void RedisStore::on_writable() {
  if (context_ == nullptr) return;
  is_in_callback_ = true;
  redisAsyncHandleWrite(context_);
  is_in_callback_ = false;
  // It takes what it is sent, and there is more of it: megabytes of payloads are no silence.
  if (context_ != nullptr && wants_write_ && !waiting_.empty())
    waiting_.front().waits_since_ms = now_.mono_ms;
  if (!drop_reason_.empty()) drop(drop_reason_);
}

std::int64_t RedisStore::next_deadline_mono_ms() const {
  if (context_ == nullptr) return connect_again_ms_;
  if (!is_ready_) return connect_began_ms_ + kConnectMs;
  if (waiting_.empty()) return health_due_ms_;
  const std::int64_t since = waiting_.front().waits_since_ms;
  return std::min(since == kNever ? now_.mono_ms : since + kReplyMs, health_due_ms_);
}

void RedisStore::tick(Now now) {
  now_ = now;
  if (context_ == nullptr) {
    if (now.mono_ms >= connect_again_ms_) connect();
    return;
  }
  if (!is_ready_) {
    if (now.mono_ms >= connect_began_ms_ + kConnectMs) drop("no connection within 1 s");
    return;
  }
  if (!waiting_.empty()) {
    std::int64_t& since = waiting_.front().waits_since_ms;
    since = std::min(since, now.mono_ms);
    if (now.mono_ms >= since + kReplyMs) return drop("no reply within 2 s");
  }
  if (now.mono_ms >= health_due_ms_) ask_health();
}

// ---------------------------------------------------------------- out

void RedisStore::put(RespWriter& command) {
  const std::string_view text = command.text();
  redisAsyncFormattedCommand(context_, Hooks::reply, nullptr, text.data(), text.size());
}

void RedisStore::expect(Waiting waiting) {
  waiting_.push_back(std::move(waiting));
}

void RedisStore::put_other(RespWriter& command) {
  expect({.kind = Kind::other});
  put(command);
}

void RedisStore::ask_health() {
  health_due_ms_ = now_.mono_ms + kHealthMs;
  expect({.kind = Kind::info});
  RespWriter info;
  put(info.add("INFO"));
  expect({.kind = Kind::fsync});
  RespWriter fsync;
  put(fsync.add("CONFIG").add("GET").add("appendfsync"));
  expect({.kind = Kind::epoch});
  RespWriter epoch;
  put(epoch.add("HGET").add(keys::kMeta).add("epoch"));
}

void RedisStore::send(StoreRequest request) {
  if (!is_ready_ || context_ == nullptr) return;  // StoreDisconnected stands for its answer
  const auto* commit = std::get_if<CommitRequest>(&request);
  RespWriter command(commit != nullptr ? commit->entry->blob.size() : 0);
  if (commit != nullptr) {
    write_commit(command, *commit, owner_);
    expect({.kind = Kind::commit, .n = commit->entry->n});
  } else if (const auto* project = std::get_if<ProjectRequest>(&request)) {
    write_project(command, *project, owner_);
    expect({.kind = Kind::project});
  } else if (const auto* take_over = std::get_if<TakeOver>(&request)) {
    write_take_over(command, *take_over, owner_);
    expect({.kind = Kind::take_over});
  } else if (const auto* read = std::get_if<ReadLog>(&request)) {
    write_read_log(command, *read);
    expect({.kind = Kind::read_log});
  } else if (const auto* logs = std::get_if<AddToLogs>(&request)) {
    write_add_to_logs(command, *logs, owner_);
    expect({.kind = Kind::logs});
  } else if (const auto* log = std::get_if<FetchJobLog>(&request)) {
    write_read_job_log(command, *log);
    expect({.kind = Kind::job_log, .n = log->token});
  } else if (const auto* fetch = std::get_if<FetchJobs>(&request)) {
    return send_fetch(*fetch);
  } else {
    return send_list(std::get<FetchList>(request));
  }
  put(command);
}

void RedisStore::send_fetch(const FetchJobs& request) {
  Waiting waiting{.kind = Kind::fetch, .n = request.token, .left = request.ids.size() + 1};
  waiting.ids = request.ids;
  waiting.jobs.token = request.token;
  expect(std::move(waiting));
  for (const JobId& id : request.ids) {
    RespWriter command;
    put(command.add("HGETALL").add(keys::job(id.view())));
  }
  // Last: what was emptied before any of them was read is seen here.
  RespWriter meta;
  put(meta.add("HMGET").add(keys::kMeta).add("checkpoint").add("epoch"));
}

void RedisStore::send_list(const FetchList& request) {
  Waiting waiting{.kind = Kind::list, .n = request.token};
  waiting.list.token = request.token;
  waiting.filter = request.filter;
  ListCursor after;
  if (!request.filter.cursor.empty()) {
    const auto parsed = parse_list_cursor(request.filter.cursor);
    if (!parsed) {
      waiting.list.error =
          Error{ErrorCode::bad_field, "cursor", "not a cursor of an earlier answer"};
      replies_.emplace_back(std::move(waiting.list));
      return;
    }
    after = *parsed;
  }
  expect(std::move(waiting));
  RespWriter command;
  write_list(command, request.filter, after);
  put(command);
}

void RedisStore::receive(std::vector<StoreReply>& replies) {
  for (StoreReply& reply : replies_)
    replies.push_back(std::move(reply));
  replies_.clear();
}

// ---------------------------------------------------------------- in

// hiredis answers in the order sent, so a reply belongs to the first that waits.
void RedisStore::on_reply(redisReply* reply) {
  if (waiting_.empty()) return drop("a reply that nobody asked for");
  Waiting& waiting = waiting_.front();
  if (reply->type == REDIS_REPLY_ERROR && waiting.kind != Kind::fsync)
    waiting.refused = text_of(reply);
  else
    on_answer(waiting, reply);
  if (--waiting.left > 0) return;
  Waiting done = std::move(waiting_.front());
  waiting_.pop_front();
  if (!done.refused.empty()) return on_refused(done, std::move(done.refused));
  if (done.kind == Kind::fetch) replies_.emplace_back(std::move(done.jobs));
  if (done.kind == Kind::list_jobs) replies_.emplace_back(std::move(done.list));
}

void RedisStore::on_answer(Waiting& waiting, redisReply* reply) {
  switch (waiting.kind) {
    case Kind::commit:
      return on_commit(waiting, reply);
    case Kind::project:
      return on_project(waiting, reply);
    case Kind::take_over:
      return on_take_over(waiting, reply);
    case Kind::read_log:
      replies_.emplace_back(LogRead{entries_of(reply)});
      return;
    case Kind::fetch:
      return on_job(waiting, reply);
    case Kind::list:
      return on_list(waiting, reply);
    case Kind::list_jobs:
      return on_list_job(waiting, reply);
    case Kind::job_log:
      return on_job_log(waiting, reply);
    case Kind::logs:
      return on_logs(reply);
    case Kind::info:
      info_text_ = text_of(reply);
      return;
    case Kind::fsync:
      info_ = read_info(info_text_, text_at(reply, 1));
      return;
    case Kind::epoch:
      stored_epoch_ = number_of_text(text_of(reply));
      if (is_ready_) say_health();
      return;
    case Kind::meta:
      return on_meta(reply);
    default:
      return;
  }
}

void RedisStore::on_refused(Waiting& waiting, std::string reason) {
  using What = StoreRefused::What;
  RespWriter load;
  if (reason.find("Function not found") != std::string::npos)
    put_other(load.add("FUNCTION").add("LOAD").add("REPLACE").add(function_library()));
  switch (waiting.kind) {
    case Kind::commit:
      replies_.emplace_back(StoreRefused{What::commit, waiting.n, std::move(reason)});
      return;
    case Kind::project:
      replies_.emplace_back(StoreRefused{What::project, 0, std::move(reason)});
      return;
    case Kind::take_over:
      replies_.emplace_back(StoreRefused{What::take_over, 0, std::move(reason)});
      return;
    case Kind::read_log:
      replies_.emplace_back(StoreRefused{What::read_log, 0, std::move(reason)});
      return;
    case Kind::logs:
      replies_.emplace_back(StoreRefused{What::logs, 0, std::move(reason)});
      return;
    case Kind::fetch:
    case Kind::list:
    case Kind::list_jobs:
    case Kind::job_log:
      replies_.emplace_back(StoreRefused{What::fetch, waiting.n, std::move(reason)});
      return;
    default:
      // A greeting that was refused (NOAUTH, LOADING): not ready, try again.
      if (!is_ready_) drop(std::move(reason));
  }
}

void RedisStore::on_commit(const Waiting& waiting, redisReply* reply) {
  const std::string word = text_at(reply, 0);
  CommitReply said{waiting.n, CommitAnswer::ok, number_at(reply, 1)};
  if (word == "already")
    said.answer = CommitAnswer::already;
  else if (word == "gap")
    said.answer = CommitAnswer::gap;
  else if (word == "fenced")
    said.answer = CommitAnswer::fenced;
  else if (word == "rolled_back")
    said.answer = CommitAnswer::rolled_back;
  else if (word != "ok")
    return drop("commit answered what it never answers");
  replies_.emplace_back(said);
}

void RedisStore::on_project(const Waiting& waiting, redisReply* reply) {
  (void)waiting;
  const std::string word = text_at(reply, 0);
  ProjectReply said{.fenced = word == "fenced", .rolled_back = word == "rolled_back"};
  if (!said.fenced && !said.rolled_back) {
    said.checkpoint = number_at(reply, 1);
    said.removed = number_at(reply, 2);
    said.set_aside = number_at(reply, 3);
    said.to_retire = retired_at(reply, 4);
  }
  replies_.emplace_back(std::move(said));
}

void RedisStore::on_take_over(const Waiting& waiting, redisReply* reply) {
  (void)waiting;
  const TookOver took{text_at(reply, 0) == "1", meta_at(reply, 1)};
  health_.epoch = took.meta.epoch;  // known without our word: what is stored then is told
  replies_.emplace_back(took);
}

void RedisStore::on_job(Waiting& waiting, redisReply* reply) {
  if (waiting.left == 1) {
    waiting.jobs.batch = number_at(reply, 0);
    waiting.jobs.epoch = number_at(reply, 1);
    return;
  }
  const JobId& id = waiting.ids[waiting.ids.size() + 1 - waiting.left];
  const FieldPairs fields = pairs_of(reply);
  if (fields.empty()) return;
  if (auto job = from_fields(id.view(), fields)) waiting.jobs.jobs.push_back(std::move(*job));
}

void RedisStore::on_list(Waiting& waiting, redisReply* reply) {
  Waiting jobs{.kind = Kind::list_jobs, .n = waiting.n};
  jobs.list = std::move(waiting.list);
  jobs.filter = std::move(waiting.filter);
  jobs.list.batch = number_at(reply, 0);
  if (const std::string id = text_at(reply, 3); !id.empty()) {
    ListCursor cursor{text_at(reply, 1), 0, id};
    const std::string score = text_at(reply, 2);
    std::from_chars(score.data(), score.data() + score.size(), cursor.score);
    jobs.list.cursor = to_text(cursor);
  }
  for (std::size_t i = 4; i < reply->elements; ++i)
    if (const std::string id = text_at(reply, i); !id.empty() && id.size() <= kIdBytesMax)
      jobs.ids.emplace_back(id);
  if (jobs.ids.empty()) {
    replies_.emplace_back(std::move(jobs.list));
    return;
  }
  jobs.left = jobs.ids.size();
  std::vector<RespWriter> commands(jobs.ids.size());
  for (std::size_t i = 0; i < commands.size(); ++i) {
    commands[i].add("HMGET").add(keys::job(jobs.ids[i].view()));
    for (const std::string& name : light_fields())
      commands[i].add(name);
  }
  expect(std::move(jobs));
  for (RespWriter& command : commands)
    put(command);
}

void RedisStore::on_list_job(Waiting& waiting, redisReply* reply) {
  const JobId& id = waiting.ids[waiting.ids.size() - waiting.left];
  FieldPairs fields;
  const auto& names = light_fields();
  for (std::size_t i = 0; i < names.size() && i < reply->elements; ++i)
    if (reply->element[i]->type == REDIS_REPLY_STRING)
      fields.emplace_back(names[i], text_of(reply->element[i]));
  auto job = from_fields(id.view(), fields);
  if (job) job->is_payload_lost = false;  // it was not asked for
  // Between the index and the hash it may have moved on.
  if (job && job->state == waiting.filter.state.value_or(JobState::queued) &&
      matches(waiting.filter, *job))
    waiting.list.jobs.push_back(std::move(*job));
}

void RedisStore::on_job_log(const Waiting& waiting, redisReply* reply) {
  replies_.emplace_back(FetchedJobLog{waiting.n, log_chunks_at(reply, 1), number_at(reply, 0)});
}

void RedisStore::on_logs(redisReply* reply) {
  AddedToLogs added;
  added.is_taken = text_at(reply, 0) == "ok";
  for (std::size_t i = 1; added.is_taken && i < reply->elements; ++i)
    added.ends.push_back(number_at(reply, i));
  replies_.emplace_back(std::move(added));
}

void RedisStore::on_meta(redisReply* reply) {
  if (!info_.unsafe.empty()) return drop(info_.unsafe);
  if (info_.is_loading) return drop("LOADING");
  is_ready_ = true;
  back_off_ms_ = 0;
  replies_.emplace_back(StoreConnected{info_.run_id, meta_at(reply, 0)});
  say_health();
}

void RedisStore::say_health() {
  const bool is_same = is_health_said_ && health_.is_full == info_.is_full &&
                       health_.durability == info_.durability && health_.unsafe == info_.unsafe &&
                       health_.epoch == stored_epoch_;
  if (is_same) return;
  is_health_said_ = true;
  health_ = {info_.is_full, info_.durability, info_.unsafe, stored_epoch_};
  replies_.emplace_back(health_);
}

}  // namespace sluice
