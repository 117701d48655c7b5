// The twin and a real redis-server get the same drawn calls, from two brokers that take the state
// from each other, and must agree: answer by answer, and at the end key by key. What they disagree
// about is shrunk to the fewest calls and printed.
#include <poll.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <memory>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <hiredis/hiredis.h>

#include "broker/store/job_fields.h"
#include "broker/store/keys.h"
#include "broker/store/log_entry.h"
#include "broker/store/memory_store.h"
#include "broker/store/redis_store.h"
#include "tests/support/redis_server.h"

namespace sluice {
namespace {

// ---------------------------------------------------------------- what is drawn

// Small numbers everywhere, so that calls meet each other's jobs, batches and epochs.
struct RowDraw {
  int id = 0, state = 0, queue = 0, batch = 1, place = 0, keep = 0;
  bool has_payload = false;
};

struct Call {
  enum Kind : int {
    open,
    commit,
    project,
    take_over,
    fetch,
    list,
    flush,
    kind_count
  };

  int kind = open;
  int broker = 0;
  int epoch_step = 0;  // from the stored epoch
  int n_step = 0;      // from the next number
  int a = 0, b = 0, c = 0;
  std::vector<RowDraw> rows;
};

constexpr std::int64_t kWallMs = 100'000;

std::string name_of(const char* kind, int number) {
  return kind + std::to_string(number);
}

// Never below 0: an epoch of 2^64 - 1 is nobody's.
std::uint64_t stepped(std::uint64_t epoch, int step) {
  return step < 0 && epoch == 0 ? 0 : epoch + static_cast<std::uint64_t>(step);
}

Job job_of(const RowDraw& draw) {
  Job job;
  job.spec.id = JobId(name_of("j", draw.id));
  job.spec.task = "echo";
  job.spec.queue = name_of("q", draw.queue);
  job.spec.priority = static_cast<Priority>(draw.place % 4);
  job.spec.keep_payload = draw.keep == 1;
  job.spec.keep_result_ms = draw.keep == 2 ? kWallMs : 0;
  job.spec.tags = {"a"};
  job.state = static_cast<JobState>(draw.state);
  job.batch = static_cast<std::uint64_t>(draw.batch);
  job.sequence = static_cast<std::uint64_t>(draw.place);
  job.created_ms = 1000;
  job.due_ms = job.started_ms = 2000 + draw.place;
  if (is_ended(job.state)) job.finished_ms = kWallMs - 25'000 * draw.place;
  if (job.state == JobState::completed) job.result = "result";
  if (draw.has_payload) job.spec.payload = name_of("payload", draw.batch);
  return job;
}

// The projector never names a job twice in one call.
std::vector<RowDraw> one_per_job(std::vector<RowDraw> rows) {
  std::map<int, RowDraw> by_id;
  for (const RowDraw& row : rows)
    by_id[row.id] = row;
  rows.clear();
  for (const auto& [id, row] : by_id)
    rows.push_back(row);
  return rows;
}

rc::Gen<RowDraw> any_row() {
  using rc::gen::inRange;
  return rc::gen::build<RowDraw>(rc::gen::set(&RowDraw::id, inRange(0, 7)),
                                 rc::gen::set(&RowDraw::state, inRange(0, 6)),
                                 rc::gen::set(&RowDraw::queue, inRange(0, 2)),
                                 rc::gen::set(&RowDraw::batch, inRange(1, 6)),
                                 rc::gen::set(&RowDraw::place, inRange(0, 4)),
                                 rc::gen::set(&RowDraw::keep, inRange(0, 3)),
                                 rc::gen::set(&RowDraw::has_payload));
}

rc::Gen<Call> any_call() {
  using rc::gen::inRange;
  const auto kind = rc::gen::weightedElement<int>({{2, Call::open},
                                                   {8, Call::commit},
                                                   {16, Call::project},
                                                   {2, Call::take_over},
                                                   {4, Call::fetch},
                                                   {8, Call::list},
                                                   {1, Call::flush}});
  const auto step = rc::gen::weightedElement<int>({{12, 0}, {1, 1}, {1, -1}});
  return rc::gen::build<Call>(
      rc::gen::set(&Call::kind, kind),
      rc::gen::set(&Call::broker, rc::gen::weightedElement<int>({{4, 0}, {1, 1}})),
      rc::gen::set(&Call::epoch_step, step),
      rc::gen::set(&Call::n_step, step),
      rc::gen::set(&Call::a, inRange(0, 8)),
      rc::gen::set(&Call::b, inRange(0, 8)),
      rc::gen::set(&Call::c, inRange(0, 8)),
      rc::gen::set(&Call::rows, rc::gen::container<std::vector<RowDraw>>(any_row())));
}

void show(const RowDraw& row, std::ostream& out) {
  out << " " << name_of("j", row.id) << "=" << to_string(static_cast<JobState>(row.state)) << "/q"
      << row.queue << "/batch" << row.batch << "/place" << row.place << "/keep" << row.keep
      << (row.has_payload ? "/payload" : "");
}

void showValue(const Call& call, std::ostream& out) {
  static constexpr const char* kNames[] =
      {"open", "commit", "project", "take_over", "fetch", "list", "flush"};
  out << "\n  " << kNames[call.kind] << " broker" << call.broker << " epoch" << std::showpos
      << call.epoch_step << " n" << call.n_step << std::noshowpos << " a" << call.a << " b"
      << call.b << " c" << call.c;
  for (const RowDraw& row : call.rows)
    show(row, out);
}

// ---------------------------------------------------------------- requests of a draw

CommitRequest commit_of(const Call& call, std::uint64_t epoch, std::uint64_t next_n) {
  const std::uint64_t n = next_n + static_cast<std::uint64_t>(call.n_step);
  std::vector<Job> jobs;
  BatchWrites writes;
  const std::vector<RowDraw> rows = one_per_job(call.rows);
  jobs.reserve(rows.size());
  for (const RowDraw& row : rows) {
    jobs.push_back(job_of(row));
    jobs.back().batch = n;
    writes.jobs.push_back({&jobs.back(), row.has_payload});
  }
  if (call.a == 0) {
    const JobId id(name_of("j", call.b));
    std::erase_if(writes.jobs, [&](const auto& write) { return write.job->id() == id; });
    writes.removed = {{id, {hash_id(id.view()), 77, JobState::failed, 3000}}};
  }
  const QueueRecord queue{name_of("q", call.c % 3), call.b % 2 == 1, {.submitted = n}};
  if (call.c < 6) writes.queues.push_back(&queue);
  writes.next_sequence = n + 1;
  return {epoch, std::make_shared<const LogEntry>(LogEntry{n, encode_entry(n, epoch, writes)})};
}

ProjectRequest project_of(const Call& call, std::uint64_t epoch, std::uint64_t next_n) {
  ProjectRequest request;
  request.epoch = epoch;
  for (const RowDraw& row : one_per_job(call.rows)) {
    if (row.batch == 5)
      request.removed.emplace_back(name_of("j", row.id));
    else
      request.rows.push_back({job_of(row), row.has_payload});
  }
  if (call.c % 3 == 0)
    request.retired = {{JobId(name_of("j", call.a)), static_cast<std::uint64_t>(call.b), {}}};
  if (call.a < 3) request.nodes = {{name_of("n@", call.a), call.b < 4 ? "{}" : ""}};
  if (call.b < 2) request.events = {name_of("event ", call.c), "other"};
  if (call.c < 3) {
    append_ended(request.ended_blob, {hash_id("x"), 7, JobState::failed, 3000});
    request.ended_chunk = static_cast<std::uint64_t>(call.c);
  }
  if (call.c > 5) request.ended_drop = {static_cast<std::uint64_t>(call.a % 3)};
  if (call.a % 2 == 0) request.trim_queues = {"q0", "q1"};
  request.retention.keep_ms = 12'000 * call.b;
  request.retention.failed_keep_ms = 60'000;
  request.retention.keep_count = static_cast<std::uint64_t>(call.c % 4);
  request.trim_before_batch = static_cast<std::uint64_t>(call.a);
  request.wall_ms = kWallMs;
  if (call.b % 2 == 1) return request;
  const auto total = static_cast<std::uint64_t>(call.a);
  request.checkpoint = next_n - std::min<std::uint64_t>(next_n, 1 + static_cast<unsigned>(call.c));
  request.queues = {{"q0", call.a == 1, {.submitted = total, .failed = 3}},
                    {"q1", false, {.submitted = 2, .expired = total}}};
  request.next_sequence = static_cast<std::uint64_t>(call.c);
  request.finished_not_kept = static_cast<std::uint64_t>(call.b);
  request.view_lag_ms = call.c;
  return request;
}

FetchJobs fetch_of(const Call& call) {
  FetchJobs request{1, {}};
  for (int i = 0; i < call.a; ++i)
    request.ids.emplace_back(name_of("j", (call.b + i * call.c) % 9));
  return request;
}

// `cursor`: of the last list that had one.
FetchList list_of(const Call& call, const std::string& cursor) {
  Filter filter;
  if (call.a < 6) filter.state = static_cast<JobState>(call.a);
  if (call.b < 2) filter.queue = name_of("q", call.b);
  if (call.b == 2) filter.tag = "b";
  filter.limit = static_cast<std::uint32_t>(1 + call.c % 3);
  if (call.c > 2) filter.cursor = cursor;
  if (call.c == 7) filter.cursor = "nonsense";
  return {2, filter};
}

// The base of a resync is now and then far ahead, so that the log is trimmed.
TakeOver take_over_of(const Call& call, std::uint64_t epoch, std::uint64_t next_n) {
  return {.epoch = epoch + 1,
          .base = call.a < 4 ? 0 : next_n + static_cast<std::uint64_t>(call.a == 7 ? 256 : call.a),
          .replaced_epoch = call.b < 4 ? 0 : stepped(epoch, call.b % 3 - 1)};
}

// ---------------------------------------------------------------- answers, as text

std::string text_of(const Job& job) {
  std::ostringstream text;
  text << job.id().view() << (job.is_payload_lost ? " without its payload" : "");
  for (const auto& [name, value] : to_fields({job, true}))
    text << " " << name << "=" << value;
  text << " payload=" << job.spec.payload;
  return text.str();
}

// Page and fetch keep their order; a start brings jobs and queues in any.
template <typename Jobs>
std::string text_of_all(const Jobs& jobs, bool is_sorted = false) {
  std::vector<std::string> lines;
  for (const Job& job : jobs)
    lines.push_back("\n    " + text_of(job));
  if (is_sorted) std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines)
    text += line;
  return text;
}

std::string text_of(const StoreMeta& meta) {
  std::ostringstream text;
  text << "layout " << meta.layout << " epoch " << meta.epoch << " owner " << meta.owner << " last "
       << meta.last << " checkpoint " << meta.checkpoint;
  return text.str();
}

std::string text_of(const Result<Opened>& opened) {
  if (!opened) return "refused: " + opened.error().where;
  const Snapshot& snapshot = opened->snapshot;
  std::ostringstream text;
  text << "epoch " << snapshot.epoch << " last " << snapshot.last << " checkpoint "
       << snapshot.checkpoint << " next_sequence " << snapshot.next_sequence << " cold "
       << snapshot.has_cold_jobs << " chunks " << opened->ended_chunk_first << ".."
       << opened->ended_chunk_next << " log";
  for (const LogEntryPtr& entry : opened->unprojected)
    text << " " << entry->n;
  for (const EndedRecord& ended : snapshot.ended)
    text << " ended " << to_string(ended.state) << "@" << ended.finished_ms;
  std::map<std::string, std::string> lines;
  for (const DeletedJob& deleted : snapshot.deleted)
    lines[deleted.id.str()] = " deleted in " + std::to_string(deleted.batch);
  for (const QueueRecord& queue : snapshot.queues)
    lines[queue.name] =
        (queue.is_paused ? " paused " : " active ") + std::to_string(queue.totals.submitted) + " " +
        std::to_string(queue.totals.failed) + " " + std::to_string(queue.totals.expired);
  for (const auto& [name, line] : lines)
    text << "\n    " << name << line;
  return text.str() + text_of_all(snapshot.jobs, true);
}

// Queues and states are looked through in the same order by both.
std::string text_of_retired(const std::vector<RetiredJob>& jobs) {
  std::ostringstream text;
  for (const RetiredJob& job : jobs)
    text << " to retire " << job.id.view() << " batch " << job.batch << " "
         << to_string(job.ended.state) << " hash " << job.ended.content_hash << " finished "
         << job.ended.finished_ms;
  return text.str();
}

std::string text_of(const StoreReply& reply) {
  std::ostringstream text;
  if (const auto* commit = std::get_if<CommitReply>(&reply))
    text << "commit " << commit->n << " " << static_cast<int>(commit->answer) << " "
         << commit->value;
  else if (const auto* project = std::get_if<ProjectReply>(&reply))
    text << "project fenced " << project->fenced << " rolled back " << project->rolled_back
         << " checkpoint " << project->checkpoint << " removed " << project->removed
         << text_of_retired(project->to_retire);
  else if (const auto* jobs = std::get_if<FetchedJobs>(&reply))
    text << "fetched at batch " << jobs->batch << " epoch " << jobs->epoch
         << text_of_all(jobs->jobs);
  else if (const auto* list = std::get_if<FetchedList>(&reply))
    text << "listed batch " << list->batch << " cursor " << list->cursor << " error "
         << (list->error ? list->error->where : "none") << text_of_all(list->jobs);
  else if (const auto* took = std::get_if<TookOver>(&reply))
    text << "took " << took->taken << " " << text_of(took->meta);
  else if (const auto* refused = std::get_if<StoreRefused>(&reply))
    text << "refused " << static_cast<int>(refused->what) << " " << refused->n << " "
         << refused->reason;
  else
    text << "an answer of another kind";
  return text.str();
}

// ---------------------------------------------------------------- the state, key by key

using State = std::map<std::string, std::string>;

void put_number(State& state, const std::string& name, std::uint64_t value) {
  if (value > 0) state[name] = std::to_string(value);
}

State state_of(const MemoryRedis& redis) {
  State state;
  put_number(state, "meta layout", redis.meta.layout);
  put_number(state, "meta epoch", redis.meta.epoch);
  put_number(state, "meta last", redis.meta.last);
  put_number(state, "meta checkpoint", redis.meta.checkpoint);
  put_number(state, "meta log_trimmed", redis.log_trimmed);
  put_number(state, "meta ended_first", redis.ended_first);
  put_number(state, "meta ended_next", redis.ended_next);
  put_number(state, "meta view_lag_ms", static_cast<std::uint64_t>(redis.view_lag_ms));
  if (redis.next_sequence > 1) put_number(state, "meta next_sequence", redis.next_sequence);
  if (redis.meta.exists) state["meta owner"] = redis.meta.owner;
  for (const auto& [n, entry] : redis.log)
    state["log " + std::to_string(n) + "-0"] = entry->blob;
  for (const auto& [id, hash] : redis.jobs)
    for (const auto& [name, value] : hash.fields)
      state["job:" + id + " " + name] = value;
  for (const auto& [name, index] : redis.indexes)
    for (const auto& [score, id] : index.entries())
      state[name + " " + id] = std::to_string(static_cast<std::int64_t>(score));
  put_number(state, "stats finished_not_kept", redis.finished_not_kept);
  std::map<std::string, std::uint64_t> sums;
  for (const auto& [name, queue] : redis.queues) {
    state["queues " + name] = queue.is_paused ? "paused" : "active";
    visit_totals(
        [&](unsigned, const char* total, std::uint64_t value) {
          put_number(state, "stats " + name + ":" + total, value);
          sums[total] += value;
        },
        queue.totals);
  }
  for (const auto& [total, value] : sums)
    put_number(state, "stats " + total, value);
  for (const auto& [node, json] : redis.nodes)
    state["nodes " + node] = json;
  for (std::size_t i = 0; i < redis.events.size(); ++i)
    state["events " + std::to_string(i)] = redis.events[i];
  for (const auto& [chunk, blob] : redis.ended)
    state["ended:" + std::to_string(chunk)] = blob;
  return state;
}

// ---------------------------------------------------------------- a real server

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};

struct FreeContext {
  void operator()(redisContext* context) const { redisFree(context); }
};

void flatten(const redisReply& reply, std::vector<std::string>& words) {
  if (reply.type == REDIS_REPLY_ARRAY)
    for (std::size_t i = 0; i < reply.elements; ++i)
      flatten(*reply.element[i], words);
  else if (reply.type == REDIS_REPLY_INTEGER)
    words.push_back(std::to_string(reply.integer));
  else
    words.emplace_back(reply.str == nullptr ? "" : std::string(reply.str, reply.len));
}

class Looker {
 public:
  explicit Looker(const std::string& socket) : context_(redisConnectUnix(socket.c_str())) {}

  std::vector<std::string> ask(const std::vector<std::string>& command) {
    std::vector<const char*> words;
    std::vector<std::size_t> sizes;
    for (const std::string& word : command) {
      words.push_back(word.data());
      sizes.push_back(word.size());
    }
    const std::unique_ptr<redisReply, FreeReply> reply(
        static_cast<redisReply*>(redisCommandArgv(context_.get(),
                                                  static_cast<int>(words.size()),
                                                  words.data(),
                                                  sizes.data())));
    if (reply == nullptr) throw std::runtime_error("redis-server is gone");
    std::vector<std::string> flat;
    flatten(*reply, flat);
    return flat;
  }

  State state() {
    State state;
    for (const std::string& key : ask({"KEYS", std::string(keys::kPrefix) + "*"})) {
      const std::string name = key.substr(keys::kPrefix.size());
      const std::string type = ask({"TYPE", key}).at(0);
      if (type == "string")
        state[name] = ask({"GET", key}).at(0);
      else if (type == "stream")
        put_stream(state, name, ask({"XRANGE", key, "-", "+"}));
      else
        put_pairs(
            state,
            name,
            type == "hash" ? ask({"HGETALL", key}) : ask({"ZRANGE", key, "0", "-1", "WITHSCORES"}));
    }
    // Named or not, they mean the same.
    std::erase_if(state, [](const auto& entry) {
      const bool is_number = entry.first.starts_with("stats ") || entry.first.starts_with("meta ");
      return is_number &&
             (entry.second == "0" || (entry.first == "meta next_sequence" && entry.second == "1"));
    });
    return state;
  }

 private:
  static void put_pairs(State& state,
                        const std::string& name,
                        const std::vector<std::string>& pairs) {
    for (std::size_t i = 0; i + 1 < pairs.size(); i += 2)
      state[name + " " + pairs[i]] = pairs[i + 1];
  }

  // Entries of one field each: id, name, value.
  static void put_stream(State& state,
                         const std::string& name,
                         const std::vector<std::string>& words) {
    for (std::size_t i = 0; i + 2 < words.size(); i += 3)
      state[name + " " + (name == "log" ? words[i] : std::to_string(i / 3))] = words[i + 2];
  }

  std::unique_ptr<redisContext, FreeContext> context_;
};

// ---------------------------------------------------------------- both sides

// Time stands still: no answer is ever late.
constexpr Now kNow{1000, kWallMs};

StoreReply next_reply(Store& store) {
  std::vector<StoreReply> replies;
  for (int turns = 0; turns < 20'000; ++turns) {
    store.receive(replies);
    std::erase_if(replies, [](const StoreReply& reply) {
      return std::holds_alternative<StoreHealth>(reply);
    });
    if (!replies.empty()) return std::move(replies.front());
    pollfd poll_fd{store.fd(), static_cast<short>(POLLIN | (store.wants_write() ? POLLOUT : 0)), 0};
    if (poll(&poll_fd, 1, 1) > 0)
      store.on_ready((poll_fd.revents & ~POLLOUT) != 0, (poll_fd.revents & POLLOUT) != 0, kNow);
  }
  return StoreDisconnected{"no answer"};
}

class BothSides {
 public:
  explicit BothSides(const test::RedisServer& server) : looker_(server.socket()) {
    (void)looker_.ask({"FLUSHALL"});
    const RedisConfig config{.address = *parse_redis_address(server.address()), .password = {}};
    for (int broker = 0; broker < 2; ++broker) {
      twins_.push_back(std::make_unique<MemoryStore>(memory_));
      reals_.push_back(std::make_unique<RedisStore>(config));
    }
    open(1, 5);
    open(0, 5);
  }

  void run(const Call& call) {
    const std::uint64_t epoch = memory_->meta.epoch, next_n = memory_->meta.last + 1;
    const std::uint64_t said_epoch = stepped(epoch, call.epoch_step);
    switch (call.kind) {
      case Call::open:
        return open(call.broker, said_epoch);
      case Call::commit:
        return ask(call.broker, commit_of(call, said_epoch, next_n));
      case Call::project:
        return ask(call.broker, project_of(call, said_epoch, next_n));
      case Call::take_over:
        return ask(call.broker, take_over_of(call, said_epoch, next_n));
      case Call::fetch:
        return ask(call.broker, fetch_of(call));
      case Call::list:
        return ask(call.broker, list_of(call, cursor_));
      default:
        (void)looker_.ask({"FLUSHALL"});
        memory_->flush();
    }
  }

  void compare_state() {
    const State twin = state_of(*memory_), real = looker_.state();
    std::string difference;
    for (const auto& [name, value] : twin)
      if (const auto found = real.find(name); found == real.end() || found->second != value)
        difference += "\n  " + name + ": twin " + value + " redis " +
                      (found == real.end() ? "has none" : found->second);
    for (const auto& [name, value] : real)
      if (!twin.contains(name)) difference += "\n  " + name + ": twin has none, redis " + value;
    RC_ASSERT(difference == "");
    RC_ASSERT(memory_->audit() == "");
  }

 private:
  void open(int broker, std::uint64_t epoch_min) {
    const auto at = static_cast<std::size_t>(broker);
    const std::string owner = name_of("broker", broker);
    const std::string twin = text_of(twins_[at]->open(owner, epoch_min, read_on));
    const std::string real = text_of(reals_[at]->open(owner, epoch_min, read_on));
    RC_ASSERT(twin == real);
  }

  void ask(int broker, const StoreRequest& request) {
    const auto at = static_cast<std::size_t>(broker);
    twins_[at]->send(request);
    reals_[at]->send(request);
    const StoreReply twin = next_reply(*twins_[at]), real = next_reply(*reals_[at]);
    RC_ASSERT(text_of(twin) == text_of(real));
    if (const auto* list = std::get_if<FetchedList>(&twin); list && !list->cursor.empty())
      cursor_ = list->cursor;
  }

  Looker looker_;
  std::shared_ptr<MemoryRedis> memory_ = std::make_shared<MemoryRedis>();
  std::vector<std::unique_ptr<MemoryStore>> twins_;
  std::vector<std::unique_ptr<RedisStore>> reals_;
  std::string cursor_;
};

TEST(StoreTwin, agrees_with_redis_on_any_calls) {
  const test::RedisServer server;
  EXPECT_TRUE(rc::check([&] {
    const auto calls = *rc::gen::container<std::vector<Call>>(any_call());
    BothSides sides(server);
    for (const Call& call : calls)
      sides.run(call);
    sides.compare_state();
  }));
}

}  // namespace
}  // namespace sluice
