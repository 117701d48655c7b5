#include "tests/scenarios/stage.h"

#include <algorithm>
#include <limits>

#include "broker/store/log_entry.h"
#include "common/protocol/codec.h"
#include "tests/scenarios/story.h"
#include "tests/scenarios/wording.h"

namespace sluice::scenarios {

namespace {

constexpr int kTurnsMax = 10'000;  // more at one moment is a broker that goes round in circles

}  // namespace

Stage::Stage() : now_{kStartMs, kStartMs}, redis_(std::make_shared<MemoryRedis>()) {
  config_.owner = "broker";
  config_.core.version = "0";
}

std::int64_t Stage::story_ms() const {
  return now_.mono_ms - kStartMs;
}

// ---------------------------------------------------------------- the broker

void Stage::start_broker() {
  store_ = std::make_unique<MemoryStore>(redis_);
  auto opened =
      store_->open(config_.owner, static_cast<std::uint64_t>(now_.wall_ms / 1000), read_on);
  if (!opened) throw StoryError("the broker can not start: " + opened.error().detail);
  broker_ = std::make_unique<Engine>(config_, std::move(*opened), now_);
  broker_->want_job_events(true);
  broker_->want_log_events(true);
}

Engine& Stage::broker() {
  if (broker_ == nullptr) start_broker();
  return *broker_;
}

MemoryStore& Stage::store() {
  (void)broker();
  return *store_;
}

void Stage::restart_broker() {
  asked_.clear();  // whoever waited asks again
  broker_.reset();
  start_broker();
  // What was sent and did not stand in the log was never written.
  written_n_ = redis_->meta.last;
  std::erase_if(written_, [&](const auto& job) { return job.second.batch > written_n_; });
  write_line("broker epoch=" + std::to_string(broker_->core().epoch()));
  for (auto& [id, node] : nodes_)
    if (node.is_linked) send_status(node);
  settle();
}

void Stage::stop_broker() {
  broker().stop(now_);
  settle();
}

void Stage::sleep_broker(std::int64_t ms) {
  (void)broker();
  now_.mono_ms += ms;
  now_.wall_ms += ms;
  broker_->slept(ms, now_);
  heartbeats();
  settle();
}

void Stage::roll_redis_back() {
  if (!saved_) throw StoryError("redis goes back to what was saved, and nothing was");
  redis_->roll_back(*saved_);
}

// ---------------------------------------------------------------- time

std::int64_t Stage::next_moment_ms() {
  std::int64_t next = broker().next_deadline_mono_ms(now_);
  for (const auto& [id, node] : nodes_)
    if (node.is_linked) next = std::min(next, node.next_heartbeat_ms);
  // The loop turns again at once for a deadline that has passed; here that is the next millisecond.
  return std::max(next, now_.mono_ms + 1);
}

void Stage::advance(std::int64_t ms) {
  const std::int64_t until_ms = now_.mono_ms + ms;
  while (now_.mono_ms < until_ms) {
    const std::int64_t step_ms = std::min(next_moment_ms(), until_ms) - now_.mono_ms;
    now_.mono_ms += step_ms;
    now_.wall_ms += step_ms;
    std::vector<std::string> before = take_lines();
    heartbeats();
    settle();
    std::vector<std::string> lines = take_lines();
    if (!lines.empty()) before.push_back("at " + seconds(story_ms()));
    before.insert(before.end(), lines.begin(), lines.end());
    lines_ = std::move(before);
  }
}

void Stage::heartbeats() {
  for (auto& [id, node] : nodes_)
    if (node.is_linked && node.next_heartbeat_ms <= now_.mono_ms) send_status(node, true);
}

void Stage::settle() {
  for (int turn = 0; carry(); ++turn)
    if (turn == kTurnsMax) throw StoryError("the broker does not come to rest");
}

// One turn of the loop; whether anything moved.
bool Stage::carry() {
  std::vector<StoreRequest> requests;
  std::vector<StoreReply> replies;
  std::vector<Frame> frames;
  std::vector<EngineFact> facts;
  broker().turn(now_);
  broker_->take_store_requests(requests);
  for (StoreRequest& request : requests)
    to_store(std::move(request));
  store_->receive(replies);
  for (StoreReply& reply : replies)
    broker_->receive_store(std::move(reply), now_);
  broker_->take_frames(frames);
  for (const Frame& frame : frames)
    to_peer(frame);
  for (auto& [id, node] : nodes_)
    if (std::exchange(node.owes_status, false)) send_status(node, true);
  broker_->take_facts(facts);
  for (const EngineFact& fact : facts)
    if (std::string text = describe(fact); !text.empty()) write_line("fact " + text);
  return !requests.empty() || !replies.empty() || !frames.empty();
}

// ---------------------------------------------------------------- the store

void Stage::to_store(StoreRequest&& request) {
  if (const auto* commit = std::get_if<CommitRequest>(&request)) write_batch(*commit);
  if (const auto* take_over = std::get_if<TakeOver>(&request))
    write_line("take_over epoch=" + std::to_string(take_over->epoch));
  store_->send(std::move(request));
}

void Stage::write_batch(const CommitRequest& request) {
  const std::uint64_t n = request.entry->n;
  const std::string write = "write " + std::to_string(n);
  if (n <= written_n_) return write_line(write + " again");
  written_n_ = n;
  auto entry = decode_entry(request.entry->blob);
  if (!entry) throw StoryError("batch " + std::to_string(n) + " can not be read");
  for (ViewRow& row : entry->jobs) {
    const auto before = written_.find(row.job.id());
    // Its id may have been another job's before.
    const bool is_known =
        before != written_.end() && before->second.created_ms == row.job.created_ms;
    std::string line = write + ": " + row.job.id().str() + " ";
    line += describe(row.job, is_known ? &before->second : nullptr);
    if (row.has_payload && !row.job.spec.payload.empty())
      line += " payload=" + quoted(row.job.spec.payload);
    write_line(std::move(line));
    written_[row.job.id()] = std::move(row.job);
  }
  for (const JobId& id : entry->removed) {
    write_line(write + ": " + id.str() + " deleted");
    written_.erase(id);
  }
  for (const QueueRecord& queue : entry->queues)
    if (std::exchange(paused_[queue.name], queue.is_paused) != queue.is_paused)
      write_line(write + ": queue " + queue.name + (queue.is_paused ? " paused" : " active"));
}

// ---------------------------------------------------------------- producers

void Stage::request(Peer peer, RequestBody body, std::size_t line) {
  const Req req = make_req(next_req_++);
  asked_[{peer.routing_id, req}] = {peer.routing_id, line};
  raw_request(std::move(peer), encode_request({req, std::move(body)}));
}

void Stage::raw_request(Peer peer, const std::string& frame) {
  broker().receive_producer(std::move(peer), frame, now_);
  settle();
}

void Stage::to_peer(const Frame& frame) {
  if (frame.channel == Channel::producers) return to_producer(frame);
  if (frame.channel == Channel::workers) return to_node(frame);
  const auto event = decode_event(frame.bytes);
  if (!event) throw StoryError("an event that can not be read");
  write_line("event " + describe(event->event));
}

void Stage::to_producer(const Frame& frame) {
  const auto reply = decode_reply(frame.bytes);
  if (!reply) throw StoryError("an answer that can not be read: " + reply.error().detail);
  const ReplyBody& body = reply->body;
  const auto* submitted = std::get_if<Submitted>(&body);
  const bool is_open =
      std::holds_alternative<Finished>(body) || (submitted != nullptr && submitted->open);
  if (is_open && frame.peer.has_delimiter) throw StoryError("a REQ peer got an open answer");
  if (!is_open) asked_.erase({frame.peer.routing_id, reply->req});
  if (const auto* listed = std::get_if<Listed>(&body)) last_cursor_ = listed->cursor;
  if (const auto* done = std::get_if<TargetsDone>(&body)) last_cursor_ = done->cursor;
  const auto* stats = std::get_if<StatsInfo>(&body);
  for (const std::string& line : stats != nullptr ? describe(*stats, stats_keys_) : describe(body))
    write_line(frame.peer.routing_id + " <- " + line);
}

std::string Stage::unanswered() const {
  if (asked_.empty()) return {};
  const Asked& first = asked_.begin()->second;
  return "the request of " + first.who + " in line " + std::to_string(first.line);
}

// ---------------------------------------------------------------- nodes

StoryNode& Stage::node(const std::string& id) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) throw StoryError("there is no node " + id);
  return found->second;
}

void Stage::send_status(StoryNode& node, bool is_quiet) {
  node.next_heartbeat_ms = now_.mono_ms + config_.core.heartbeat_ms;
  if (is_quiet) ++node.quiet;
  Status status = node.offer;
  status.seq = ++node.offer.seq;
  status.seen = node.seen;
  for (const auto& [id, held] : node.held)
    status.held.push_back(held);
  say(node, std::move(status));
}

void Stage::say(StoryNode& node, const WorkerMessage& message) {
  if (!node.is_linked) return;
  raw_worker(node.offer.node, encode_worker_message(message));
}

void Stage::raw_worker(const std::string& routing_id, const std::string& frame) {
  broker().receive_worker(Peer{routing_id, false}, frame, now_);
}

void Stage::to_node(const Frame& frame) {
  auto message = decode_broker_message(frame.bytes);
  if (!message) throw StoryError("a message to a node that can not be read");
  const std::string& id = frame.peer.routing_id;
  const auto found = nodes_.find(id);
  const bool is_lost =
      found != nodes_.end() &&
      (!found->second.is_linked || (found->second.lose_next > 0 && found->second.lose_next-- > 0));
  const auto* welcome = std::get_if<Welcome>(&message->body);
  // One that asks for everything again answers no heartbeat, and stands for those of an outage.
  if (welcome != nullptr && welcome->repeat && found != nodes_.end()) found->second.quiet = 0;
  const bool is_quiet = welcome != nullptr && found != nodes_.end() && found->second.quiet > 0;
  if (is_quiet) --found->second.quiet;
  if (!is_quiet)
    for (const std::string& line : describe(message->body, broker_->core().epoch()))
      write_line(id + " <- " + line + (is_lost ? " (lost)" : ""));
  if (found != nodes_.end() && !is_lost) take(found->second, *message);
}

// What a node does with a message; what becomes of its attempts the story says.
void Stage::take(StoryNode& node, const BrokerMessage& message) {
  const bool is_refusal = std::holds_alternative<Refused>(message.body);
  if (is_refusal || message.number <= node.seen) return;
  node.seen = message.number;
  if (const auto* run = std::get_if<Run>(&message.body))
    for (const RunJob& job : run->jobs)
      node.held.try_emplace(job.id, HeldAttempt{job.id, job.fence, Phase::running});
  if (const auto* drop = std::get_if<DropAttempts>(&message.body))
    for (const AttemptRef& attempt : drop->attempts)
      if (const auto held = node.held.find(attempt.id);
          held != node.held.end() && held->second.fence == attempt.fence)
        node.held.erase(held);
  if (const auto* ack = std::get_if<Ack>(&message.body))
    for (const AckedAttempt& acked : ack->results)
      if (const auto held = node.held.find(acked.id);
          acked.checkpoint_n == 0 && held != node.held.end() && held->second.fence == acked.fence)
        node.held.erase(held);
  const auto* welcome = std::get_if<Welcome>(&message.body);
  if (welcome == nullptr) return;
  if (node.greeted_epoch == message.number.epoch && !welcome->repeat) return;
  node.greeted_epoch = message.number.epoch;
  node.owes_status = true;  // after it has taken everything that came with the welcome
}

}  // namespace sluice::scenarios
