#include "tests/scenarios/commands.h"

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "tests/scenarios/story.h"
#include "tests/scenarios/wording.h"

#include <nlohmann/json.hpp>

namespace sluice::scenarios {

namespace {

struct Step {
  Stage& stage;
  Words& words;
  std::size_t line;
};

template <typename T>
T known(std::optional<T> value, const std::string& word) {
  if (!value) throw StoryError("nobody knows the word '" + word + "'");
  return *value;
}

// A moment of the story (`45s`) or one from now on (`+5s`), on the wall clock.
std::int64_t moment_ms(Step& step, const std::string& key) {
  const auto text = step.words.text(key);
  if (!text) return 0;
  if (text->starts_with("+")) return step.stage.now().wall_ms + parse_duration_ms(text->substr(1));
  return kStartMs + parse_duration_ms(*text);
}

// ---------------------------------------------------------------- producers

void ask(Step& step, RequestBody body) {
  const std::string from = step.words.text("from").value_or("p");
  const std::string socket = step.words.text("socket").value_or("dealer");
  if (socket != "dealer" && socket != "req") throw StoryError("a socket is dealer or req");
  step.words.finish();
  step.stage.request(Peer{from, socket == "req"}, std::move(body), step.line);
}

RetryPolicy retry_of(Words& words) {
  RetryPolicy policy;
  policy.jitter = 0;  // times in stories are round unless they ask for more
  if (const auto retries = words.number("retries"))
    policy.max_retries = static_cast<std::uint32_t>(*retries);
  if (const auto base = words.duration_ms("backoff")) policy.base_ms = *base;
  if (const auto factor = words.decimal("factor")) policy.factor = *factor;
  if (const auto cap = words.duration_ms("cap")) policy.cap_ms = *cap;
  if (const auto jitter = words.decimal("jitter")) policy.jitter = *jitter;
  return policy;
}

JobSpec spec_of(Step& step) {
  Words& words = step.words;
  JobSpec spec;
  spec.task = words.text("task").value_or("echo");
  spec.queue = words.text("queue").value_or("default");
  spec.payload = words.text("payload").value_or("");
  if (const auto priority = words.text("priority"))
    spec.priority = known(parse_priority(*priority), *priority);
  spec.delay_ms = words.duration_ms("delay").value_or(0);
  spec.run_at_ms = moment_ms(step, "run_at");
  spec.expires_at_ms = moment_ms(step, "expires");
  spec.timeout_ms = words.duration_ms("timeout").value_or(kTimeoutDefaultMs);
  spec.retry = retry_of(words);
  spec.keep_result_ms = words.duration_ms("keep_result").value_or(0);
  spec.keep_payload = words.flag("keep_payload");
  spec.tags = words.list("tags");
  return spec;
}

std::vector<JobId> ids_of(Words& words) {
  std::vector<JobId> ids;
  for (const std::string& name : words.names("a job id"))
    ids.emplace_back(name);
  return ids;
}

void submit(Step& step) {
  const JobSpec spec = spec_of(step);
  Submit submit;
  submit.wait = step.words.flag("wait");
  for (const JobId& id : ids_of(step.words)) {
    submit.jobs.emplace_back(spec);
    std::get<JobSpec>(submit.jobs.back()).id = id;
  }
  ask(step, std::move(submit));
}

Filter filter_of(Step& step) {
  Words& words = step.words;
  Filter filter;
  if (const auto state = words.text("state")) filter.state = known(parse_job_state(*state), *state);
  filter.queue = words.text("queue").value_or("");
  filter.task = words.text("task").value_or("");
  filter.tag = words.text("tag").value_or("");
  filter.error_code = words.text("error_code").value_or("");
  filter.cursor = words.text("cursor").value_or("");
  if (filter.cursor == "next") filter.cursor = step.stage.last_cursor();
  filter.limit = static_cast<std::uint32_t>(words.number("limit").value_or(filter.limit));
  return filter;
}

Targets targets_of(Step& step) {
  if (step.words.has_names()) return {.ids = ids_of(step.words), .filter = {}};
  return {.ids = {}, .filter = filter_of(step)};
}

void stats(Step& step) {
  step.stage.show_stats(step.words.names("the keys to show"));
  ask(step, Stats{});
}

// Any message at all: JSON becomes msgpack. Who has an '@' in his name speaks at the workers' port.
void send_raw(Stage& stage, std::string_view rest) {
  const std::size_t blank = rest.find(' ');
  if (blank == rest.npos) throw StoryError("raw needs who sends it and a JSON text");
  const std::string who(rest.substr(0, blank));
  const auto json = nlohmann::json::parse(rest.substr(blank + 1), nullptr, false);
  if (json.is_discarded()) throw StoryError("not a JSON text");
  std::string frame;
  nlohmann::json::to_msgpack(json, frame);
  if (who.find('@') == who.npos) return stage.raw_request(Peer{who, false}, frame);
  stage.raw_worker(who, frame);
  stage.settle();
}

// ---------------------------------------------------------------- nodes

void node(Step& step) {
  const std::string id = step.words.name("a node id");
  const bool is_new = !step.stage.has_node(id);
  StoryNode& node = step.stage.add_node(id);
  Status& offer = node.offer;
  if (is_new) {
    offer.node = id;
    offer.tasks = {"echo"};
  }
  if (const auto slots = step.words.number("slots"))
    offer.concurrency = static_cast<std::uint32_t>(*slots);
  if (step.words.has("tasks")) offer.tasks = step.words.list("tasks");
  if (step.words.has("queues")) offer.queues = step.words.list("queues");
  if (step.words.has("draining")) offer.draining = step.words.flag("draining");
  offer.replaces = step.words.text("replaces").value_or("");
  step.words.finish();
  step.stage.send_status(node);
  step.stage.settle();
}

// `x/2` or `x/2@1000`; the epoch is the broker's unless it is said.
HeldAttempt attempt_of(Step& step, const std::string& text) {
  const std::size_t slash = text.find('/');
  if (slash == text.npos) throw StoryError("an attempt is job/number or job/number@epoch: " + text);
  const std::size_t at = text.find('@', slash);
  const std::string number = text.substr(slash + 1, at == text.npos ? at : at - slash - 1);
  HeldAttempt held;
  held.id = JobId(text.substr(0, slash));
  held.fence.attempt = static_cast<std::uint32_t>(parse_number(number));
  held.fence.epoch =
      at == text.npos ? step.stage.broker().core().epoch() : parse_number(text.substr(at + 1));
  held.phase = Phase::running;
  return held;
}

// The attempt that a node reports on: `x` is the one of x that it holds.
HeldAttempt reported(Step& step, StoryNode& node, const std::string& text) {
  if (text.find('/') != text.npos) return attempt_of(step, text);
  const auto held = node.held.find(JobId(text));
  if (held == node.held.end()) throw StoryError(node.offer.node + " does not hold " + text);
  return held->second;
}

// What the node says it holds and has seen, instead of what it does.
void status(Step& step) {
  StoryNode& node = step.stage.node(step.words.name("a node id"));
  Status status = node.offer;
  status.seq = ++node.offer.seq;
  status.seen = node.seen;
  if (const auto seen = step.words.text("seen"))
    status.seen = *seen == "none" ? Seen{} : Seen{parse_number(*seen), 1};
  if (step.words.has("held")) {
    const std::vector<std::string> attempts = step.words.list("held");
    for (const std::string& attempt : attempts)
      if (attempt != "none") status.held.push_back(attempt_of(step, attempt));
  } else {
    for (const auto& [id, held] : node.held)
      status.held.push_back(held);
  }
  step.words.finish();
  step.stage.say(node, status);
  step.stage.settle();
}

void result(Step& step) {
  StoryNode& node = step.stage.node(step.words.name("a node id"));
  const HeldAttempt attempt = reported(step, node, step.words.name("a job"));
  const std::string outcome = step.words.name("an outcome");
  AttemptResult result;
  result.id = attempt.id;
  result.fence = attempt.fence;
  result.outcome = known(parse_outcome(outcome), outcome);
  result.result = step.words.text("result").value_or("");
  if (result.outcome == Outcome::failed) {
    result.error_code = step.words.text("code").value_or("broken");
    result.error = step.words.text("error").value_or("");
    result.retryable = step.words.text("retryable").value_or("yes") == "yes";
    result.retry_after_ms = step.words.duration_ms("retry_after");
  }
  step.words.finish();
  if (const auto held = node.held.find(attempt.id);
      held != node.held.end() && held->second.fence == attempt.fence)
    held->second.phase = Phase::finished;
  step.stage.say(node, Results{node.offer.node, {std::move(result)}});
  step.stage.settle();
}

void progress(Step& step) {
  StoryNode& node = step.stage.node(step.words.name("a node id"));
  const HeldAttempt attempt = reported(step, node, step.words.name("a job"));
  Progress progress;
  progress.node = node.offer.node;
  progress.id = attempt.id;
  progress.fence = attempt.fence;
  progress.percent = static_cast<std::uint32_t>(step.words.number("percent").value_or(0));
  progress.message = step.words.text("message").value_or("");
  progress.checkpoint = step.words.text("checkpoint");
  progress.checkpoint_n = step.words.number("checkpoint_n").value_or(progress.checkpoint ? 1 : 0);
  step.words.finish();
  step.stage.say(node, progress);
  step.stage.settle();
}

void write_log(Step& step) {
  StoryNode& node = step.stage.node(step.words.name("a node id"));
  const HeldAttempt attempt = reported(step, node, step.words.name("a job"));
  Log log{node.offer.node, attempt.id, attempt.fence, step.words.text("text").value_or("-")};
  step.words.finish();
  step.stage.say(node, std::move(log));
  step.stage.settle();
}

void read_logs(Step& step) {
  Logs logs{JobId(step.words.name("a job id")), step.words.number("from").value_or(0)};
  ask(step, std::move(logs));
}

void goodbye(Step& step) {
  StoryNode& node = step.stage.node(step.words.name("a node id"));
  step.words.finish();
  step.stage.say(node, Goodbye{node.offer.node});
  node.is_linked = false;
  step.stage.settle();
}

void link(Step& step) {
  StoryNode& node = step.stage.node(step.words.name("a node id"));
  const std::string way = step.words.name("up or down");
  step.words.finish();
  if (way != "up" && way != "down") throw StoryError("a link goes up or down");
  const bool was_linked = std::exchange(node.is_linked, way == "up");
  if (!node.is_linked || was_linked) return;
  node.greeted_epoch = 0;  // a new connection
  step.stage.send_status(node);
  step.stage.settle();
}

void lose(Step& step) {
  StoryNode& node = step.stage.node(step.words.name("a node id"));
  node.lose_next = step.words.has_names() ? parse_number(step.words.name("how many")) : 1;
  step.words.finish();
}

// ---------------------------------------------------------------- store and broker

void store(Step& step) {
  MemoryStore& store = step.stage.store();
  const std::string what = step.words.name("what happens to it");
  if (what == "holds") {
    store.set_held(true);
  } else if (what == "executes") {
    const bool is_all = !step.words.has_names();
    std::uint64_t left = is_all ? store.held_count() : parse_number(step.words.name("how many"));
    const bool loses_reply = step.words.flag("lose_reply");
    for (; left > 0; --left)
      store.execute(loses_reply);
    if (is_all) store.set_held(false);
  } else if (what == "disconnects") {
    store.disconnect("connection reset");
  } else if (what == "connects") {
    store.set_held(false);
    store.connect();
  } else if (what == "refuses") {
    store.set_refusing(step.words.name("the reason"));
  } else if (what == "accepts") {
    store.set_refusing({});
  } else if (what == "fills" || what == "empties") {
    step.stage.redis().is_full = what == "fills";
    store.say_health();
  } else {
    throw StoryError("the store does not do this: " + what);
  }
  step.words.finish();
  step.stage.settle();
}

void redis(Step& step) {
  MemoryStore& store = step.stage.store();
  const std::string what = step.words.name("what happens to it");
  step.words.finish();
  if (what == "saves") return step.stage.save_redis();
  if (what == "flushes") return step.stage.redis().flush();
  if (what != "restarts" && what != "goes-back")
    throw StoryError("redis does not do this: " + what);
  store.disconnect("connection reset");
  step.stage.settle();
  if (what == "restarts")
    step.stage.redis().restart();
  else
    step.stage.roll_redis_back();
  store.connect();
  step.stage.settle();
}

void broker(Step& step) {
  const std::string what = step.words.name("what happens to it");
  const std::int64_t sleep_ms =
      what == "sleeps" ? parse_duration_ms(step.words.name("for how long")) : 0;
  step.words.finish();
  if (what == "restarts") return step.stage.restart_broker();
  if (what == "stops") return step.stage.stop_broker();
  if (what == "sleeps") return step.stage.sleep_broker(sleep_ms);
  if (what != "is-replaced") throw StoryError("the broker does not do this: " + what);
  MemoryRedis& state = step.stage.redis();
  (void)state.take_over({.epoch = state.meta.epoch + 1, .base = 0}, "another broker");
}

void config(Step& step) {
  EngineConfig& config = step.stage.config();
  Words& words = step.words;
  config.core.queue_max = words.number("queue_max").value_or(config.core.queue_max);
  config.core.ended_max = words.number("ended_max").value_or(config.core.ended_max);
  config.core.memory_max_bytes = words.number("memory_max").value_or(config.core.memory_max_bytes);
  config.view.retention.keep_count =
      words.number("keep_count").value_or(config.view.retention.keep_count);
  config.view.retention.keep_ms = words.duration_ms("keep").value_or(config.view.retention.keep_ms);
  words.finish();
}

using Verb = void (*)(Step&);

const std::map<std::string, Verb>& verbs() {
  static const std::map<std::string, Verb> all = {
      {"submit", submit},
      {"get",
       [](Step& step) {
         ask(step, Get{ids_of(step.words)});
       }},
      {"wait",
       [](Step& step) {
         const std::int64_t timeout_ms = step.words.duration_ms("timeout").value_or(60'000);
         ask(step, Wait{ids_of(step.words), timeout_ms});
       }},
      {"cancel",
       [](Step& step) {
         const std::string reason = step.words.text("reason").value_or("");
         ask(step, Cancel{targets_of(step), reason});
       }},
      {"retry",
       [](Step& step) {
         ask(step, Retry{targets_of(step)});
       }},
      {"delete",
       [](Step& step) {
         ask(step, Delete{targets_of(step)});
       }},
      {"list",
       [](Step& step) {
         ask(step, List{filter_of(step)});
       }},
      {"logs", read_logs},
      {"queues",
       [](Step& step) {
         ask(step, Queues{});
       }},
      {"workers",
       [](Step& step) {
         ask(step, Workers{});
       }},
      {"stats", stats},
      {"ping",
       [](Step& step) {
         ask(step, Ping{});
       }},
      {"pause",
       [](Step& step) {
         ask(step, Pause{step.words.name("a queue")});
       }},
      {"resume",
       [](Step& step) {
         ask(step, Resume{step.words.name("a queue")});
       }},
      {"purge",
       [](Step& step) {
         ask(step, Purge{step.words.name("a queue")});
       }},
      {"drain",
       [](Step& step) {
         ask(step, Drain{step.words.name("a node")});
       }},
      {"set_concurrency",
       [](Step& step) {
         const std::string node = step.words.name("a node");
         const auto slots = parse_number(step.words.name("a number of slots"));
         ask(step, SetConcurrency{node, static_cast<std::uint32_t>(slots)});
       }},
      {"node", node},
      {"status", status},
      {"result", result},
      {"progress", progress},
      {"log", write_log},
      {"goodbye", goodbye},
      {"link", link},
      {"lose", lose},
      {"store", store},
      {"redis", redis},
      {"broker", broker},
      {"config", config},
  };
  return all;
}

}  // namespace

void do_step(Stage& stage, std::string_view text, std::size_t line) {
  if (text.starts_with("t=")) {
    if (!text.starts_with("t=+")) throw StoryError("time goes on by t=+DURATION");
    return stage.advance(parse_duration_ms(text.substr(3)));
  }
  // A JSON text is not words.
  if (text.starts_with("> raw ")) return send_raw(stage, text.substr(6));
  Words words(text);
  const auto verb = verbs().find(words.verb());
  if (verb == verbs().end()) throw StoryError("there is no step '" + words.verb() + "'");
  Step step{stage, words, line};
  verb->second(step);
}

}  // namespace sluice::scenarios
