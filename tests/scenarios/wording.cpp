#include "tests/scenarios/wording.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <type_traits>
#include <utility>

namespace sluice::scenarios {

namespace {

using Lines = std::vector<std::string>;

std::string join(const std::vector<std::string>& parts, const char* between = ",") {
  std::string text;
  for (const std::string& part : parts)
    text.append(text.empty() ? "" : between).append(part);
  return text;
}

// Gathers ` key=value` for what is not its default.
class Options {
 public:
  Options& add(const char* key, std::string_view value) {
    if (!value.empty()) text_.append(" ").append(key).append("=").append(quoted(value));
    return *this;
  }

  Options& add(const char* key, std::uint64_t value) {
    return value == 0 ? *this : add(key, std::to_string(value));
  }

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string attempts_of(const Job& job) {
  std::string text;
  for (const AttemptRecord& record : job.attempts) {
    text += (text.empty() ? "" : ",") + std::to_string(record.attempt) + ":";
    text += to_string(record.end);
    if (!record.error_code.empty()) text += "(" + record.error_code + ")";
  }
  return text;
}

using Field = std::pair<const char*, std::string>;

std::string count(std::uint64_t value) {
  return value == 0 ? "" : std::to_string(value);
}

std::vector<Field> fields_of(const Job& job) {
  const bool is_pending = job.state == JobState::pending;
  const bool is_running = job.state == JobState::running;
  return {
      {"task", job.spec.task == "echo" ? "" : job.spec.task},
      {"queue", job.spec.queue == "default" ? "" : job.spec.queue},
      {"priority",
       job.spec.priority == Priority::normal ? "" : std::string(to_string(job.spec.priority))},
      {"tags", join(job.spec.tags)},
      {"due", is_pending ? seconds(job.due_ms - kStartMs) : ""},
      {"life", job.life == 1 ? "" : std::to_string(job.life)},
      {"attempt", count(job.attempt)},
      {"node", job.node},
      {"retries", count(job.retry_count)},
      {"lost", count(job.lost_count)},
      {"progress", is_running ? count(job.progress_percent) : ""},
      {"message", job.progress_message},
      {"checkpoint", job.checkpoint},
      {"cancel",
       job.cancel_requested_ms == 0 ? ""
       : job.cancel_reason.empty()  ? "requested"
                                    : job.cancel_reason},
      {"error_code", job.error_code},
      {"error", job.error},
      {"attempts", attempts_of(job)},
      {"result", job.result},
  };
}

std::string describe_view(const JobView& view) {
  const std::string id = view.id.str() + " ";
  if (view.is_not_found) return id + "not_found";
  if (view.is_result_gone)
    return id + std::string(to_string(view.state)) +
           " result_gone finished=" + seconds(view.finished_ms - kStartMs);
  return id + describe(*view.job, nullptr) +
         Options().add("payload", view.job->spec.payload).text();
}

std::string describe_error(const Error& error) {
  return std::string(to_string(error.code)) + (error.where.empty() ? "" : " " + error.where) +
         ": " + error.detail;
}

std::string describe_submit(const SubmitResult& result) {
  std::string text = quoted(result.id) + " " + std::string(to_string(result.status));
  if (result.state) text += std::string(", ") + std::string(to_string(*result.state));
  if (result.error) text += ", " + describe_error(*result.error);
  return text;
}

// What every line of an answer begins with, and the lines of an answer without any items.
class Answer {
 public:
  explicit Answer(std::string op) : op_(std::move(op)) {}

  void add(const std::string& item) { lines_.push_back(op_ + " " + item); }

  void add_views(const std::vector<JobView>& views) {
    for (const JobView& view : views)
      add(describe_view(view));
  }

  void add_ids(const char* what, const std::vector<JobId>& ids) {
    for (const JobId& id : ids)
      add(what + id.str());
  }

  Lines lines() && {
    if (lines_.empty()) lines_.push_back(op_);
    return std::move(lines_);
  }

 private:
  std::string op_;
  Lines lines_;
};

Lines words_of(const Submitted& reply) {
  Answer answer(reply.open ? "submitted (open)" : "submitted");
  for (const SubmitResult& result : reply.results)
    answer.add(describe_submit(result));
  if (reply.durable != Durability::everysec)
    answer.add("durable=" + std::string(to_string(reply.durable)));
  return std::move(answer).lines();
}

Lines words_of(const Jobs& reply) {
  Answer answer("jobs");
  answer.add_views(reply.jobs);
  answer.add_ids("more: ", reply.more);
  return std::move(answer).lines();
}

Lines words_of(const Finished& reply) {
  Answer answer("finished (open)");
  answer.add_views(reply.jobs);
  answer.add_ids("more: ", reply.more);
  return std::move(answer).lines();
}

Lines words_of(const Waited& reply) {
  Answer answer("waited");
  for (const SubmitResult& result : reply.results)
    answer.add("submitted " + describe_submit(result));
  answer.add_views(reply.jobs);
  answer.add_ids("more: ", reply.more);
  answer.add_ids("unfinished: ", reply.unfinished);
  return std::move(answer).lines();
}

Lines words_of(const TargetsDone& reply) {
  Answer answer(reply.op);
  for (const TargetResult& result : reply.results)
    answer.add(result.id.str() + " " + result.status +
               (result.state ? ", " + std::string(to_string(*result.state)) : ""));
  if (!reply.cursor.empty()) answer.add("and there is a next page");
  return std::move(answer).lines();
}

Lines words_of(const Listed& reply) {
  Answer answer("listed");
  answer.add_views(reply.jobs);
  if (!reply.cursor.empty()) answer.add("and there is a next page");
  return std::move(answer).lines();
}

Lines words_of(const LogPage& reply) {
  Answer answer("logs");
  answer.add(reply.id.str() + " " + std::string(to_string(reply.state)) +
             Options().add("next", reply.next).add("size", reply.size).text());
  for (const LogChunk& chunk : reply.chunks)
    answer.add(std::to_string(chunk.offset) + Options().add("attempt", chunk.attempt).text() + " " +
               quoted(chunk.bytes));
  return std::move(answer).lines();
}

Lines words_of(const QueuesInfo& reply) {
  Answer answer("queues");
  for (const QueueInfo& queue : reply.queues)
    answer.add(
        queue.queue + (queue.paused ? " paused" : "") +
        Options()
            .add("pending", queue.pending)
            .add("queued", queue.queued)
            .add("running", queue.running)
            .add("submitted", queue.submitted)
            .add("completed", queue.completed)
            .add("failed", queue.failed)
            .add("cancelled", queue.cancelled)
            .add("retried", queue.retried)
            .add("lost", queue.lost)
            .add("oldest", queue.oldest_queued_ms == 0 ? "" : seconds(queue.oldest_queued_ms))
            .text());
  return std::move(answer).lines();
}

Lines words_of(const WorkersInfo& reply) {
  Answer answer("workers");
  for (const NodeInfo& node : reply.workers)
    answer.add(node.node + (node.draining ? " draining" : "") +
               Options()
                   .add("concurrency", node.concurrency)
                   .add("running", node.running)
                   .add("free", node.free)
                   .add("tasks", join(node.tasks))
                   .add("queues", join(node.queues))
                   .add("last_seen", seconds(node.last_seen_ms))
                   .add("completed", node.completed)
                   .add("failed", node.failed)
                   .text());
  return std::move(answer).lines();
}

Lines words_of(const StatsInfo& reply) {
  Lines keys;
  for (const auto& [key, value] : reply.numbers)
    keys.push_back(key);
  return describe(reply, keys);
}

Lines words_of(const Done& reply) {
  return {reply.op + (reply.op == "purged" ? Options().add("count", reply.count).text() : "")};
}

Lines words_of(const Pong& reply) {
  return {"pong" + Options()
                       .add("epoch", reply.epoch)
                       .add("durable", to_string(reply.durable))
                       .add("store", reply.store)
                       .text()};
}

Lines words_of(const ErrorReply& reply) {
  std::string text = "error ";
  if (reply.retryable) text += "(again after " + seconds(reply.retry_after_ms.value_or(0)) + ") ";
  return {text + describe_error(reply.error)};
}

Lines words_of(const Run& run, std::uint64_t epoch) {
  Answer answer("run");
  for (const RunJob& job : run.jobs)
    answer.add(describe(job.id, job.fence, epoch) + Options()
                                                        .add("life", job.life == 1 ? 0 : job.life)
                                                        .add("retries", job.retry_count)
                                                        .add("checkpoint", job.checkpoint)
                                                        .add("payload", job.payload)
                                                        .text());
  return std::move(answer).lines();
}

Lines words_of(const Ack& ack, std::uint64_t epoch) {
  Answer answer("ack");
  for (const AckedAttempt& acked : ack.results)
    answer.add(describe(acked.id, acked.fence, epoch) +
               Options().add("checkpoint_n", acked.checkpoint_n).text() +
               (acked.stale ? " stale" : ""));
  return std::move(answer).lines();
}

Lines words_of(const char* op, const std::vector<AttemptRef>& attempts, std::uint64_t epoch) {
  Answer answer(op);
  for (const AttemptRef& attempt : attempts)
    answer.add(describe(attempt.id, attempt.fence, epoch));
  return std::move(answer).lines();
}

}  // namespace

// ---------------------------------------------------------------- values

std::string quoted(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    std::array<char, 5> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "\\x%02x", byte);
    out.append(byte < 0x20 || byte == 0x7f ? std::string_view(escaped.data())
                                           : std::string_view(&c, 1));
  }
  const bool is_plain = !out.empty() && out.find(' ') == out.npos;
  return is_plain ? out : "\"" + out + "\"";
}

std::string seconds(std::int64_t ms) {
  std::string text = std::to_string(ms / 1000);
  if (ms % 1000 != 0) {
    const std::string part = std::to_string(ms % 1000);
    text += "." + std::string(3 - part.size(), '0') + part;
  }
  return text + "s";
}

std::string describe(const JobId& id, Fence fence, std::uint64_t epoch) {
  const std::string text = id.str() + "/" + std::to_string(fence.attempt);
  return fence.epoch == epoch ? text : text + "@" + std::to_string(fence.epoch);
}

std::string describe(const Job& job, const Job* before) {
  static const Job kNewJob = [] {
    Job fresh;
    fresh.spec.task = "echo";
    return fresh;
  }();
  std::string text(to_string(job.state));
  if (before != nullptr && before->state != job.state)
    text = std::string(to_string(before->state)) + " -> " + text;
  const std::vector<Field> now = fields_of(job);
  const std::vector<Field> then = fields_of(before == nullptr ? kNewJob : *before);
  for (std::size_t i = 0; i < now.size(); ++i) {
    const bool is_due = std::string_view(now[i].first) == "due" && !now[i].second.empty();
    if (now[i].second == then[i].second && !(is_due && before == nullptr)) continue;
    if (now[i].second.empty() && std::string_view(now[i].first) == "due") continue;
    if (now[i].second.empty() && std::string_view(now[i].first) == "progress") continue;
    text += std::string(" ") + now[i].first + "=" + quoted(now[i].second);
  }
  return text;
}

// ---------------------------------------------------------------- messages

Lines describe(const ReplyBody& reply) {
  return std::visit([](const auto& body) { return words_of(body); }, reply);
}

Lines describe(const BrokerBody& message, std::uint64_t epoch) {
  return std::visit(
      [&](const auto& body) -> Lines {
        using Body = std::decay_t<decltype(body)>;
        if constexpr (std::is_same_v<Body, Welcome>)
          return {body.repeat ? "welcome repeat" : "welcome"};
        else if constexpr (std::is_same_v<Body, Run> || std::is_same_v<Body, Ack>)
          return words_of(body, epoch);
        else if constexpr (std::is_same_v<Body, CancelAttempts>)
          return words_of("cancel", body.attempts, epoch);
        else if constexpr (std::is_same_v<Body, DropAttempts>)
          return words_of("drop", body.attempts, epoch);
        else if constexpr (std::is_same_v<Body, DrainWish>)
          return {"drain"};
        else if constexpr (std::is_same_v<Body, ConcurrencyWish>)
          return {"set_concurrency " + std::to_string(body.concurrency)};
        else
          return {"error " + describe_error(body.error)};
      },
      message);
}

std::string describe(const EventBody& event) {
  if (const auto* node = std::get_if<NodeEvent>(&event)) return node->what + " " + node->node;
  if (const auto* log = std::get_if<LogEvent>(&event))
    return "log " + log->id.str() + " " + quoted(log->chunk.bytes);
  const auto& job = std::get<JobEvent>(event);
  return job.what + " " + job.id.str() +
         (job.what == "progress" ? " " + std::to_string(job.percent) + "%" : "");
}

std::string describe(const EngineFact& fact) {
  const auto with_text = [&](const char* what) {
    return std::string(what) + (fact.text.empty() ? "" : ": " + fact.text);
  };
  using Kind = EngineFact::Kind;
  switch (fact.kind) {
    case Kind::job:
    case Kind::node:
      return {};
    case Kind::memory_full:
      return with_text("memory_full");
    case Kind::store_lost:
      return with_text("store_lost");
    case Kind::store_back:
      return with_text("store_back");
    case Kind::store_resynced:
      return "store_resynced batches_put_back=" + std::to_string(fact.count);
    case Kind::store_rolled_back:
      return with_text("store_rolled_back") + " missing=" + std::to_string(fact.count);
    case Kind::store_rewritten:
      return "store_rewritten jobs=" + std::to_string(fact.count);
    case Kind::store_fenced:
      return with_text("store_fenced");
    case Kind::store_unsafe:
      return with_text("store_unsafe");
    case Kind::store_foreign:
      return "store_foreign count=" + std::to_string(fact.count);
    case Kind::bad_message:
      return with_text("bad_message");
  }
  return {};
}

Lines describe(const StatsInfo& stats, const Lines& keys) {
  Answer answer("stats");
  for (const std::string& key : keys) {
    for (const auto& [name, value] : stats.numbers)
      if (name == key) answer.add(key + "=" + std::to_string(value));
    for (const auto& [name, value] : stats.texts)
      if (name == key) answer.add(key + "=" + value);
  }
  return std::move(answer).lines();
}

}  // namespace sluice::scenarios
