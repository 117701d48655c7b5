// Producers: they ask, and ask again until they are answered, as client libraries do.
#include "common/protocol/codec.h"
#include "tests/sim/world.h"

namespace sluice::sim {

namespace {

const std::vector<std::string> kQueues = {"default", "mail", "bulk"};
constexpr std::int64_t kAskAgainMs = 8000;

}  // namespace

void World::producer_acts(std::uint32_t producer) {
  if (is_healed_) {  // a pause from before may have come through late
    for (const std::string& queue : kQueues)
      want(producer, Resume{queue});
    return;
  }
  if (ledger_.live_count() < live_max_ || rng_.chance(0.2)) want(producer, draw_request(producer));
  at(now_ms_ + rng_.about(act_every_ms_), What::producer_acts, producer);
}

JobId World::draw_id() {
  // Mostly one of the last, which are still alive.
  const std::size_t span =
      rng_.chance(0.8) ? std::min<std::size_t>(specs_.size(), 15) : specs_.size();
  return specs_[specs_.size() - 1 - rng_.index(span)].id;
}

JobSpec World::draw_job() {
  JobSpec spec;
  const std::string number = std::to_string(specs_.size());
  spec.id = JobId("j" + number);
  spec.task = rng_.chance(0.8) ? "a" : "b";
  spec.queue = kQueues[rng_.index(kQueues.size())];
  spec.payload = "payload of " + number;
  spec.priority = static_cast<Priority>(rng_.index(kPriorities));
  if (rng_.chance(0.15)) spec.delay_ms = rng_.range(1, 5000);
  if (rng_.chance(0.05)) spec.run_at_ms = system_wall_ms() + rng_.range(-2000, 5000);
  if (rng_.chance(0.08)) spec.expires_at_ms = system_wall_ms() + rng_.range(100, 6000);
  spec.timeout_ms = rng_.chance(0.9) ? rng_.range(300, 20'000) : 0;
  spec.retry.max_retries = static_cast<std::uint32_t>(rng_.range(0, 3));
  spec.retry.base_ms = rng_.range(1, 1500);
  spec.retry.cap_ms = 5000;
  spec.keep_payload = rng_.chance(0.1);
  if (spec.run_at_ms > 0) spec.delay_ms = 0;
  spec.content_hash = content_hash_of(spec);
  return spec;
}

RequestBody World::draw_request(std::uint32_t) {
  const auto dice = specs_.empty() ? 0 : rng_.range(0, 99);
  if (dice < 55) {
    Submit submit;
    for (std::int64_t i = rng_.chance(0.7) ? 1 : rng_.range(2, 6); i > 0; --i) {
      specs_.push_back(draw_job());
      submit.jobs.emplace_back(specs_.back());
    }
    submit.wait = rng_.chance(0.2);
    return submit;
  }
  if (dice < 63) {  // the same again, or the same id with other content
    JobSpec spec =
        specs_[rng_.chance(0.7)
                   ? specs_.size() - 1 - rng_.index(std::min<std::size_t>(specs_.size(), 10))
                   : rng_.index(specs_.size())];
    if (rng_.chance(0.3)) {
      spec.payload += " changed";
      spec.content_hash = content_hash_of(spec);
    }
    Submit submit;
    submit.jobs.emplace_back(std::move(spec));
    return submit;
  }
  Targets targets;
  targets.ids = {draw_id()};
  if (rng_.chance(0.3)) targets.ids.push_back(draw_id());
  if (dice < 75) return Cancel{std::move(targets), "because"};
  if (dice < 80) return Retry{std::move(targets)};
  if (dice < 82) return deletes_ ? RequestBody(Delete{std::move(targets)}) : RequestBody(Ping{});
  if (dice < 87) return Get{{draw_id(), draw_id()}};
  if (dice < 91) return Wait{{draw_id()}, rng_.range(0, 20'000)};
  if (dice < 93) return Pause{kQueues[rng_.index(kQueues.size())]};
  if (dice < 96) return Resume{kQueues[rng_.index(kQueues.size())]};
  if (dice < 97) return Purge{kQueues[rng_.index(kQueues.size())]};
  if (dice < 98) {
    List list;
    list.filter.state = static_cast<JobState>(rng_.index(kJobStates));
    return list;
  }
  if (dice < 99) {
    Retry retry;
    retry.targets.filter.emplace().state = JobState::failed;
    return retry;
  }
  if (rng_.chance(0.5)) return Stats{};
  return specs_.size() % 2 == 0 ? RequestBody(Queues{}) : RequestBody(Workers{});
}

void World::want(std::uint32_t producer, RequestBody body) {
  Producer& self = producers_[producer];
  self.asks.push_back({std::move(body), {}, false, 0});
  if (self.conn != kNone) ask(producer, self.asks.size() - 1);
}

void World::ask(std::uint32_t producer, std::size_t number) {
  Producer& self = producers_[producer];
  Ask& open = self.asks[number];
  if (self.conn == kNone || open.is_done) return;
  const std::uint64_t req = next_req_++;
  open.reqs.push_back(req);
  Request request{make_req(req), open.body};
  if (const auto* submit = std::get_if<Submit>(&open.body))
    for (const auto& entry : submit->jobs)
      ledger_.sent(std::get<JobSpec>(entry));
  send(self.conn, true, encode_request(request));
  asked_.emplace(req, Asked{producer, number, self.conn, std::move(request), false});
  const auto* wait = std::get_if<Wait>(&open.body);
  const bool is_long = wait != nullptr || std::holds_alternative<Submit>(open.body);
  plan_again(producer, number, kAskAgainMs + (is_long ? 30'000 : 0));
}

void World::plan_again(std::uint32_t producer, std::size_t number, std::int64_t delay_ms) {
  producers_[producer].asks[number].again_ms = now_ms_ + delay_ms;
  at(now_ms_ + delay_ms, What::producer_again, producer, number);
}

void World::ask_again(std::uint32_t producer, std::uint64_t number) {
  const Ask& open = producers_[producer].asks[number];
  if (open.is_done || open.again_ms != now_ms_) return;
  ask(producer, number);
}

void World::answered(std::uint32_t producer, const std::string& bytes) {
  const auto reply = decode_reply(bytes);
  const auto asked = asked_.find(*req_number(reply->req));
  if (!asked->second.is_closed) return;
  const auto* submitted = std::get_if<Submitted>(&reply->body);
  if (std::holds_alternative<Finished>(reply->body) || (submitted != nullptr && submitted->open))
    return;
  Producer& self = producers_[producer];
  const std::size_t number = asked->second.ask;
  Ask& open = self.asks[number];
  if (const auto* error = std::get_if<ErrorReply>(&reply->body)) {
    if (error->retryable) {
      if (error->error.code == ErrorCode::retry_later) coverage_.hit(Sometimes::memory_full);
      return plan_again(producer, number, error->retry_after_ms.value_or(1000));
    }
    // A queue in which no job ever was can not be paused or purged: that is an answer.
    const bool is_unknown_queue =
        error->error.code == ErrorCode::not_found && error->error.where == "queue";
    REQUIRE(is_unknown_queue,
            "every_request_answered",
            "a good request is refused: " + std::string(to_string(error->error.code)) + " " +
                error->error.where + " " + error->error.detail);
  }
  open.is_done = true;
  while (self.first_open < self.asks.size() && self.asks[self.first_open].is_done)
    ++self.first_open;
}

}  // namespace sluice::sim
