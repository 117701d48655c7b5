#include "tests/sim/ledger.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

namespace sluice::sim {

namespace {

// Ended ids are known for ten minutes from the removal; a little less is asked for here, from the
// end. (A run is too short for more: story retention.txt has it.)
constexpr std::int64_t kEndedHoldsMs = 9LL * 60 * 1000;
constexpr std::int64_t kEarlyMs = 50;

// Whether a job may be seen in `to` after `from` when what is written may skip values: as many
// legal moves as it takes.
bool is_reachable(const Job& from, const Job& to) {
  if (to.life > from.life) return true;  // through an end and a person's retry
  if (is_ended(from.state)) return to.state == from.state;
  return true;
}

// A new job under the id of one that ended so long ago that nobody need remember it.
bool is_forgotten(const Ledger::Durable& before, const Job& after, bool has_clock_jumped) {
  if (has_clock_jumped && is_ended(before.job.state) && after.life == 1 && after.attempt == 0)
    return true;
  return is_ended(before.job.state) && after.life == 1 &&
         after.created_ms > before.job.created_ms &&
         after.created_ms - before.job.finished_ms > kEndedHoldsMs;
}

// Nobody asks for a time so far ahead, and no back-off is so long: a clock gone wrong did that, and
// the job does not end within a run. Less than a standstill (world.cpp).
constexpr std::int64_t kFarAwayMs = 60'000;

const AttemptRecord* record_of(const Job& job, std::uint32_t attempt) {
  for (const AttemptRecord& record : job.attempts)
    if (record.attempt == attempt) return &record;
  return nullptr;
}

}  // namespace

Place Place::of(const std::string& checkpoint) {
  Place place;
  const char* const end = checkpoint.data() + checkpoint.size();
  const auto [colon, error] = std::from_chars(checkpoint.data(), end, place.attempt);
  if (error == std::errc() && colon != end) std::from_chars(colon + 1, end, place.n);
  return place;
}

std::string text(const Job& job) {
  return job.id().str() + " " + std::string(to_string(job.state)) + " life " +
         std::to_string(job.life) + " attempt " + std::to_string(job.attempt) + " epoch " +
         std::to_string(job.epoch) + " revision " + std::to_string(job.revision);
}

bool has_come_to_rest(const Job& job, std::int64_t wall_ms) {
  return is_ended(job.state) ||
         (job.state == JobState::pending && job.due_ms > wall_ms + kFarAwayMs);
}

// ---------------------------------------------------------------- the store

void Ledger::took_over(std::uint64_t epoch, const std::string& owner) {
  const auto [known, is_new] = epochs_.try_emplace(epoch, owner);
  // To one owner a second time only by a clock gone wrong; to two of them also by a Redis that
  // forgot the first, which tells them apart by their names.
  const bool may_repeat = has_clock_jumped_ || (has_lost_data_ && known->second != owner);
  REQUIRE(is_new || may_repeat, "fenced_owner", "epoch given twice: " + std::to_string(epoch));
}

void Ledger::committed(const DecodedEntry& entry, std::int64_t now_ms) {
  for (const ViewRow& row : entry.jobs)
    write(row, now_ms);
  for (const JobId& id : entry.removed) {
    // Not known: submitted, ended and deleted within this batch.
    const auto [place, is_new] = truth_.try_emplace(id);
    if (!is_new && place->second.is_live() && !is_excused(id)) --live_count_;
    // A clock gone wrong may have had it forgotten, and another job under its id was submitted,
    // ended and deleted within this batch.
    if (!is_new && !place->second.is_live() && has_clock_jumped_) told_.erase(id);
    place->second.is_removed = true;
    at_risk_.erase(id);
  }
}

void Ledger::write(const ViewRow& row, std::int64_t now_ms) {
  const JobId id = row.job.id();
  if (is_excused(id)) return rewrite_excused(row);
  const auto [place, is_new] = truth_.try_emplace(id);
  Durable& durable = place->second;
  if (!is_new && durable.is_live()) --live_count_;
  const bool is_born = is_new || is_forgotten(durable, row.job, has_clock_jumped_);
  REQUIRE(is_born || !durable.is_removed,
          "submit_idempotent",
          "deleted, and back: " + text(row.job));
  if (is_born) {
    // The ring may begin behind the submit of a job; then the job is written whole a little later.
    REQUIRE(row.has_payload || at_risk_.contains(id) || !told_.contains(id),
            "no_accepted_job_lost",
            "no payload with " + text(row.job));
    durable = {};
    const auto lost = at_risk_.find(id);
    const bool is_put_back =
        lost != at_risk_.end() && lost->second.job.created_ms == row.job.created_ms;
    if (!is_new && !is_put_back) {  // another job: its attempts begin at 1 again
      told_.erase(id);
      saved_.erase(id);
      // (After a jump of the clock the one before may be put back once more.)
      if (!has_clock_jumped_)
        std::erase_if(reports_, [&](const auto& entry) { return entry.first.id == id; });
    }
    check_birth(row.job);
    // What ended before this history began is not counted.
    if (!row.job.attempts.empty()) {
      durable.attempts_before = row.job.attempts.back().attempt;
      durable.retries_before = row.job.retry_count;
      durable.losses_before = row.job.lost_count;
    }
  } else {
    check_move(durable, row.job);
    check_times(durable.job, row.job);
  }
  const Job before = std::exchange(durable.job, row.job);
  if (row.has_payload || row.job.state == JobState::completed) durable.whole_ms = now_ms;
  moves_ += row.job.revision != before.revision ? 1 : 0;
  durable.has_payload |= row.has_payload;
  see_attempts(durable, before, row.job);
  if (is_ended(row.job.state)) end(durable);
  if (durable.is_live()) ++live_count_;
  const auto risk = at_risk_.find(id);
  const bool is_whole = durable.has_payload || row.job.state == JobState::completed;
  if (risk != at_risk_.end() && row.job.batch >= risk->second.job.batch && is_whole)
    at_risk_.erase(risk);
}

// Only what Redis has is kept.
void Ledger::rewrite_excused(const ViewRow& row) {
  Durable& durable = truth_[row.job.id()];
  moves_ += row.job.revision != durable.job.revision ? 1 : 0;
  durable.job = row.job;
  durable.is_removed = false;
}

void Ledger::check_birth(const Job& job) const {
  if (job.life > 1 || job.attempt > 0 || job.retry_count > 0) return;
  const std::int64_t asked_ms = std::max(job.spec.run_at_ms, job.created_ms + job.spec.delay_ms);
  REQUIRE(job.due_ms >= asked_ms, "never_early", "due before its time: " + text(job));
}

void Ledger::check_move(const Durable& before, const Job& after) const {
  const Job& from = before.job;
  const auto both = [&] {
    return text(from) + " -> " + text(after);
  };
  REQUIRE(is_reachable(from, after), "legal_moves", both());
  REQUIRE(after.revision >= from.revision, "legal_moves", "revision goes back: " + both());
  REQUIRE(after.revision > from.revision || after.state == from.state,
          "legal_moves",
          "a move without a revision: " + both());
  REQUIRE(after.attempt >= from.attempt && after.life >= from.life,
          "legal_moves",
          "attempt or life goes back: " + both());
  REQUIRE(after.fence() >= from.fence(), "one_current_fence", "fence goes back: " + both());
  REQUIRE(after.attempt == from.attempt ? after.epoch == from.epoch : after.epoch >= from.epoch,
          "one_current_fence",
          "fence changed under an attempt: " + both());
}

// Failures and losses are counted from the records of the attempts, not from the job's own
// counters.
void Ledger::see_attempts(Durable& durable, const Job& before, const Job& after) {
  if (after.life != before.life && before.life > 0) {
    durable.ended_attempts.clear();
    durable.retries_before = durable.losses_before = 0;
    // What is written whole after a loss may have jumped over attempts of more than one life, and
    // be in one that has had none yet.
    const bool has_run = after.state == JobState::running || is_ended(after.state) ||
                         after.retry_count + after.lost_count > 0;
    const std::uint32_t newest_before =
        has_run && after.attempt > 0 ? after.attempt - 1 : after.attempt;
    durable.attempts_before = std::max({durable.attempts_before, before.attempt, newest_before});
  }
  const auto running = durable.ended_attempts.find(after.attempt);
  if (after.state == JobState::running && running != durable.ended_attempts.end()) {
    REQUIRE(running->second == AttemptEnd::lost,
            "one_outcome",
            "an attempt runs again after its end: " + text(after));
    durable.ended_attempts.erase(running);
    durable.taken_back = after.attempt;
    coverage_.hit(Sometimes::claim);
  }
  for (const AttemptRecord& record : after.attempts) {
    if (record.attempt <= durable.attempts_before) continue;
    const auto known = durable.ended_attempts.find(record.attempt);
    if (known != durable.ended_attempts.end() && known->second == record.end) continue;
    check_report(record, before, after);
    see_end_of_attempt(durable, record, after);
  }
  std::uint32_t failures = 0;
  std::uint32_t losses = 0;
  for (const auto& [attempt, end] : durable.ended_attempts) {
    failures += end == AttemptEnd::failed || end == AttemptEnd::timed_out ? 1 : 0;
    losses += end == AttemptEnd::lost ? 1 : 0;
  }
  REQUIRE(failures <= 1 + after.spec.retry.max_retries,
          "attempts_bounded",
          std::to_string(failures) + " failed attempts with max_retries " +
              std::to_string(after.spec.retry.max_retries) + ": " + text(after));
  REQUIRE(losses <= kLostMax && after.lost_count <= kLostMax &&
              after.retry_count <= after.spec.retry.max_retries,
          "attempts_bounded",
          std::to_string(losses) + " lost attempts: " + text(after));
  REQUIRE(has_lost_data_ || (after.retry_count <= durable.retries_before + failures &&
                             after.lost_count <= durable.losses_before + losses),
          "attempts_bounded",
          std::to_string(after.retry_count) + " retries and " + std::to_string(after.lost_count) +
              " losses count after " + std::to_string(failures) + " failed and " +
              std::to_string(losses) + " lost attempts: " + text(after));
}

// A new record, or a lost attempt that ended otherwise after all.
void Ledger::see_end_of_attempt(Durable& durable, const AttemptRecord& record, const Job& after) {
  const auto [known, is_new] = durable.ended_attempts.try_emplace(record.attempt, record.end);
  if (!is_new) {
    REQUIRE(known->second == AttemptEnd::lost,
            "one_outcome",
            "attempt " + std::to_string(record.attempt) + " ends twice: " + text(after));
    known->second = record.end;
    durable.taken_back = record.attempt;
    coverage_.hit(Sometimes::claim);
  }
  if (record.end == AttemptEnd::completed) {
    if (durable.taken_back == record.attempt) coverage_.hit(Sometimes::late_success);
    if (after.state == JobState::cancelled) coverage_.hit(Sometimes::cancel_lost);
  }
  if (record.end == AttemptEnd::timed_out) coverage_.hit(Sometimes::timed_out_by_broker);
  if (record.end == AttemptEnd::handed_back) coverage_.hit(Sometimes::handed_back);
  if (record.end == AttemptEnd::lost) coverage_.hit(Sometimes::lost);
}

// What stands in the record of an attempt is what its node said of that very attempt.
void Ledger::check_report(const AttemptRecord& record, const Job& before, const Job& after) const {
  if (record.end != AttemptEnd::completed && record.end != AttemptEnd::failed) return;
  const Job* of = record.attempt == after.attempt    ? &after
                  : record.attempt == before.attempt ? &before
                                                     : nullptr;
  if (of == nullptr) return;
  const Outcome told = record.end == AttemptEnd::completed ? Outcome::completed : Outcome::failed;
  const bool has_result = after.state == JobState::completed && of == &after;
  const auto reports = reports_.find(AttemptKey{after.id(), of->fence()});
  const auto fits = [&](const Report& report) {
    return report.outcome == told && report.node == record.node &&
           (!has_result || report.result == after.result);
  };
  REQUIRE(reports != reports_.end() &&
              std::any_of(reports->second.begin(), reports->second.end(), fits),
          "one_current_fence",
          "attempt " + std::to_string(record.attempt) + " on " + record.node + " is recorded as " +
              std::string(to_string(record.end)) + ", and nobody reported that: " + text(after));
}

// A back-off that was decided is as long as the policy says, and nothing is due before its time.
void Ledger::check_times(const Job& before, const Job& after) const {
  if (after.life != before.life || after.retry_count != before.retry_count + 1) return;
  if (after.attempts.empty() || after.attempts.back().attempt != after.attempt) return;
  if (after.state != JobState::pending) return;
  const std::int64_t rest_ms = after.due_ms - after.attempts.back().ended_ms;
  const auto least = static_cast<std::int64_t>(static_cast<double>(after.spec.retry.base_ms) *
                                               (1 - after.spec.retry.jitter)) -
                     1;
  const bool is_asked = after.error_code == "retry_after";
  REQUIRE(is_asked || rest_ms >= least,
          "never_early",
          "back-off of " + std::to_string(rest_ms) + " ms: " + text(after));
}

void Ledger::end(Durable& durable) {
  const Job& job = durable.job;
  const auto [place, is_first] = durable.ends.try_emplace(job.life, End{job.state, job.result});
  REQUIRE(place->second.state == job.state && place->second.result == job.result,
          "one_outcome",
          "another end: " + text(job));
  const auto told = told_.find(job.id());
  if (told != told_.end() && job.state == JobState::completed)
    REQUIRE(!told->second.cancelled_lives.contains(job.life),
            "cancel_wins",
            "completed after its cancel was accepted: " + text(job));
  if (!is_first) return;
  if (job.retry_count > 0) coverage_.hit(Sometimes::retried);
  if (job.error_code == "lost_too_often") coverage_.hit(Sometimes::lost_too_often);
  if (job.error_code == "expired") coverage_.hit(Sometimes::expired);
  if (job.state == JobState::failed && job.retry_count > 0 &&
      job.retry_count == job.spec.retry.max_retries)
    coverage_.hit(Sometimes::retries_used_up);
  if (job.state == JobState::cancelled && job.attempt > 0)
    coverage_.hit(Sometimes::cancelled_while_running);
}

void Ledger::rolled_back(const Truth& older) {
  has_lost_data_ = true;
  for (auto& [id, durable] : truth_) {
    const auto now = older.find(id);
    // Not the revision: a cancel that was asked for, or a checkpoint, raises none.
    const bool is_same = now != older.end() && now->second.job.batch == durable.job.batch &&
                         now->second.is_removed == durable.is_removed;
    if (is_same || is_excused(id)) continue;
    const auto [risk, is_new] = at_risk_.try_emplace(id, durable);
    if (!is_new && risk->second.job.batch < durable.job.batch) risk->second = durable;
  }
  truth_ = older;
  count_live();
}

void Ledger::count_live() {
  live_count_ = 0;
  for (const auto& [id, durable] : truth_)
    live_count_ += durable.is_live() && !is_excused(id) ? 1 : 0;
}

void Ledger::excuse(const JobId& id) {
  at_risk_.erase(id);
  const bool was_told = told_.erase(id) > 0;
  const auto durable = truth_.find(id);
  if (!excused_.insert(id).second) return;
  if (durable != truth_.end() && durable->second.is_live()) --live_count_;
  if (was_told) ++coverage_.excused_jobs;
}

void Ledger::excuse_all_at_risk() {
  std::vector<JobId> ids;
  for (const auto& [id, durable] : at_risk_)
    ids.push_back(id);
  for (const JobId& id : ids)
    excuse(id);
}

void Ledger::excuse_all() {
  excuse_all_at_risk();
  std::vector<JobId> ids;
  for (const auto& [id, durable] : truth_)
    ids.push_back(id);
  for (const JobId& id : ids)
    excuse(id);
}

const Ledger::Durable* Ledger::known(const JobId& id) const {
  const auto found = truth_.find(id);
  const auto risk = at_risk_.find(id);
  if (risk == at_risk_.end()) return found == truth_.end() ? nullptr : &found->second;
  // What Redis lost, unless it already has something newer again.
  const bool is_newer = found != truth_.end() && found->second.job.batch >= risk->second.job.batch;
  return is_newer ? &found->second : &risk->second;
}

// ---------------------------------------------------------------- what is said to producers

void Ledger::sent(const JobSpec& spec) {
  payloads_[spec.id][spec.content_hash] = spec.payload;
}

void Ledger::said(const Reply& reply,
                  const Request& request,
                  std::uint64_t req,
                  std::uint64_t next_req) {
  const auto* submit = std::get_if<Submit>(&request.body);
  const auto said_views = [&](const std::vector<JobView>& views, bool skips_not_found) {
    for (const JobView& view : views)
      if (!skips_not_found || !view.is_not_found) said_view(view, req);
  };
  const auto said_submits = [&](const std::vector<SubmitResult>& results) {
    REQUIRE(submit != nullptr || results.empty(),
            "every_request_answered",
            "submitted, but nobody asked");
    for (const SubmitResult& result : results)
      said_submit(result, *submit);
  };
  if (const auto* submitted = std::get_if<Submitted>(&reply.body)) {
    said_submits(submitted->results);
  } else if (const auto* jobs = std::get_if<Jobs>(&reply.body)) {
    said_views(jobs->jobs, false);
  } else if (const auto* finished = std::get_if<Finished>(&reply.body)) {
    said_views(finished->jobs, true);  // looked up at the start of the turn, said at its end
  } else if (const auto* listed = std::get_if<Listed>(&reply.body)) {
    said_views(listed->jobs, false);
  } else if (const auto* waited = std::get_if<Waited>(&reply.body)) {
    said_submits(waited->results);
    said_views(waited->jobs, true);
  } else if (const auto* done = std::get_if<TargetsDone>(&reply.body)) {
    for (const TargetResult& result : done->results)
      said_target(done->op, result, next_req);
  }
}

void Ledger::said_submit(const SubmitResult& result, const Submit& submit) {
  if (result.status == SubmitStatus::rejected) return;
  const JobId id(result.id);
  if (is_excused(id)) return;
  std::uint64_t hash = 0;
  for (const auto& entry : submit.jobs)
    if (const auto* spec = std::get_if<JobSpec>(&entry); spec != nullptr && spec->id == id)
      hash = spec->content_hash;
  const Durable* durable = known(id);
  REQUIRE(durable != nullptr, "spoken_is_durable", "answered, but not durable: " + result.id);
  const auto [told, is_first] = told_.try_emplace(id);
  if (result.status == SubmitStatus::accepted) {
    REQUIRE(is_first || !speaks_for_owner_, "submit_idempotent", "accepted twice: " + result.id);
    told->second = {};
    told->second.content_hash = hash;
    ++coverage_.jobs;
  }
  if (durable->is_removed) return;  // deleted since, perhaps in the batch of its submit
  const bool is_same = durable->job.spec.content_hash == hash;
  if (result.status == SubmitStatus::conflict) {
    coverage_.hit(Sometimes::conflict);
    REQUIRE(!is_same, "submit_idempotent", "a conflict with itself: " + result.id);
    if (is_first) told_.erase(id);
    return;
  }
  REQUIRE(is_same, "submit_idempotent", "taken for another job: " + result.id);
  told->second.content_hash = hash;
  if (result.status != SubmitStatus::duplicate) return;
  coverage_.hit(Sometimes::duplicate);
  if (result.state && is_ended(*result.state)) {
    // One that was replaced may not know that the id was forgotten and given again.
    if (durable->job.life > 1 || !speaks_for_owner_)
      return;  // the end of a life that was undone in the same batch
    const auto& ends = durable->ends;
    REQUIRE(std::any_of(ends.begin(),
                        ends.end(),
                        [&](const auto& end) { return end.second.state == *result.state; }),
            "spoken_is_durable",
            "told of an end that is not durable: " + result.id);
  }
}

// Deleted; or removed by retention, and forgotten since: ten minutes later by the wall clock, which
// may have jumped.
bool Ledger::may_be_gone(const Durable* durable) const {
  if (durable == nullptr) return false;
  const Job& job = durable->job;
  if (durable->is_removed) return true;
  return has_clock_jumped_ && is_ended(job.state) && !redis_.jobs.contains(job.id().str());
}

void Ledger::said_view(const JobView& view, std::uint64_t req) {
  if (view.is_result_gone) coverage_.hit(Sometimes::result_gone);
  if (is_excused(view.id)) return;
  const Durable* durable = known(view.id);
  if (view.is_not_found) {
    REQUIRE(!told_.contains(view.id) || may_be_gone(durable) || !speaks_for_owner_,
            "no_accepted_job_lost",
            "accepted, and not found: " + view.id.str());
    return;
  }
  REQUIRE(durable != nullptr, "spoken_is_durable", "shown, but not durable: " + view.id.str());
  if (durable->is_removed) {
    const auto told = told_.find(view.id);
    REQUIRE(!view.job || told == told_.end() || told->second.deleted_before_req > req ||
                !speaks_for_owner_,
            "spoken_is_durable",
            "deleted, and shown again: " + view.id.str());
    return;
  }
  if (view.job)
    REQUIRE(view.job->revision <= durable->job.revision,
            "spoken_is_durable",
            "shown ahead of the store: " + text(*view.job) + ", durable " + text(durable->job));
  if (!view.job || !is_ended(view.job->state)) return;
  const auto end = durable->ends.find(view.job->life);
  // An end and the retry that undid it may be one batch: then that life never was durable.
  if (end == durable->ends.end() && view.job->life < durable->job.life) return;
  REQUIRE(end != durable->ends.end() && end->second.state == view.job->state,
          "one_outcome",
          "another end was told: " + text(*view.job));
}

void Ledger::said(const EngineFact& fact) {
  const JobId id(fact.id);
  if (fact.what != "failed" || is_excused(id)) return;
  const Durable* durable = known(id);
  REQUIRE(durable != nullptr, "spoken_is_durable", "logged, but not durable: " + fact.id);
  const bool has_failed = std::any_of(durable->ends.begin(), durable->ends.end(), [](auto& end) {
    return end.second.state == JobState::failed;
  });
  // An end and the retry that undid it may be one batch: then that life never was durable.
  REQUIRE(has_failed || durable->is_removed || durable->job.life > 1,
          "spoken_is_durable",
          "logged as failed, durable " + text(durable->job));
}

void Ledger::said_target(const std::string& op,
                         const TargetResult& result,
                         std::uint64_t next_req) {
  if (is_excused(result.id)) return;
  const Durable* durable = known(result.id);
  const auto told = told_.find(result.id);
  if (result.status == "too_late" && op == "cancelled") coverage_.hit(Sometimes::cancel_too_late);
  if (result.status == "not_found" && told != told_.end() && speaks_for_owner_)
    REQUIRE(may_be_gone(durable), "no_accepted_job_lost", "not found: " + result.id.str());
  if (result.status == "not_found" || durable == nullptr) return;
  if (result.status == "deleted") {
    coverage_.hit(Sometimes::delete_done);
    // Deleted, or ended and taken out by retention before: what Redis lost since may be that.
    const bool is_gone =
        is_ended(durable->job.state) && (has_lost_data_ || !redis_.jobs.contains(result.id.str()));
    REQUIRE(durable->is_removed || is_gone || !speaks_for_owner_,
            "spoken_is_durable",
            "not yet deleted: " + result.id.str());
    if (told != told_.end())
      told->second.deleted_before_req = std::min(told->second.deleted_before_req, next_req);
  }
  if (durable->is_removed) return;
  if (result.status == "retried") coverage_.hit(Sometimes::new_life);
  if (op != "cancelled" || (result.status != "cancelling" && result.status != "cancelled")) return;
  const Job& job = durable->job;
  const bool is_this_life = job.cancel_requested_ms > 0 || job.state == JobState::cancelled;
  if (!is_this_life) {
    REQUIRE(job.life > 1, "spoken_is_durable", "the cancel is not durable: " + text(job));
    return;
  }
  REQUIRE(job.state != JobState::completed, "cancel_wins", "completed all the same: " + text(job));
  if (told != told_.end()) told->second.cancelled_lives.insert(job.life);
}

// ---------------------------------------------------------------- what is said to workers

void Ledger::said(const std::string& node, const BrokerMessage& message) {
  if (const auto* ack = std::get_if<Ack>(&message.body))
    for (const AckedAttempt& acked : ack->results)
      said_ack(node, acked);
  if (const auto* run = std::get_if<Run>(&message.body))
    for (const RunJob& job : run->jobs)
      said_run(job);
}

// A result may be acknowledged when the end of that very attempt, on that node, stands in the
// store.
void Ledger::said_ack(const std::string& node, const AckedAttempt& ack) const {
  if (ack.checkpoint_n > 0) return;
  if (ack.stale) return coverage_.hit(Sometimes::stale_result);
  if (is_excused(ack.id)) return;
  const Durable* durable = known(ack.id);
  const std::string what =
      ack.id.str() + " attempt " + std::to_string(ack.fence.attempt) + " of " + node;
  REQUIRE(durable != nullptr, "result_kept_until_acked", "acknowledged, unknown: " + what);
  if (durable->is_removed) return;
  const Job& job = durable->job;
  const AttemptRecord* record = record_of(job, ack.fence.attempt);
  if (record == nullptr) {
    const bool may_be_cut =
        job.attempts.size() == kAttemptsKept && job.attempts.front().attempt > ack.fence.attempt;
    const bool is_older = job.attempt > ack.fence.attempt;
    REQUIRE(may_be_cut,
            is_older ? "one_current_fence" : "result_kept_until_acked",
            "acknowledged as recorded, but it is not: " + what + ", durable " + text(job));
    return;
  }
  REQUIRE(record->end != AttemptEnd::lost && record->node == node,
          "one_current_fence",
          "a superseded attempt counted: " + what + ", durable " + text(job));
}

void Ledger::said_run(const RunJob& run) {
  if (!runs_said_.insert({run.id, run.fence}).second) coverage_.hit(Sometimes::resent_run);
  if (is_excused(run.id)) return;
  const Durable* durable = known(run.id);
  REQUIRE(durable != nullptr && durable->job.fence() >= run.fence,
          "spoken_is_durable",
          "a run left before its dispatch was durable: " + run.id.str());
}

// ---------------------------------------------------------------- what nodes report, and what runs

void Ledger::reported(const std::string& node, const AttemptResult& result) {
  std::vector<Report>& reports = reports_[AttemptKey{result.id, result.fence}];
  const Report report{node, result.outcome, result.result};
  if (std::find(reports.begin(), reports.end(), report) != reports.end())
    return coverage_.hit(Sometimes::result_repeated);
  REQUIRE(reports.empty() || has_lost_data_ || has_clock_jumped_,
          "one_outcome",
          "two reports of one attempt: " + result.id.str() + " attempt " +
              std::to_string(result.fence.attempt) + " of " + node);
  reports.push_back(report);
}

void Ledger::started(const std::string& node,
                     const RunJob& job,
                     std::int64_t wall_ms,
                     bool is_clock_true) {
  ++coverage_.attempts;
  const auto sent_of = payloads_.find(job.id);
  const auto is_sent = [&](const auto& holds) {
    return sent_of != payloads_.end() &&
           std::any_of(sent_of->second.begin(), sent_of->second.end(), [&](const auto& sent) {
             return sent.second == job.payload && holds(sent.first);
           });
  };
  // Also of an excused one: rather not at all than with other data.
  REQUIRE(is_sent([](std::uint64_t) { return true; }),
          "runs_what_was_sent",
          job.id.str() + " got '" + job.payload + "', which nobody sent");
  if (is_excused(job.id)) return;
  const auto [place, is_first] = started_.try_emplace(AttemptKey{job.id, job.fence}, node);
  REQUIRE(is_first || place->second == node,
          "one_current_fence",
          job.id.str() + " attempt " + std::to_string(job.fence.attempt) + " runs on " + node +
              " and on " + place->second);
  const Durable* durable = known(job.id);
  if (durable == nullptr) return;  // excused
  const auto saved = saved_.find(job.id);
  if (saved != saved_.end() && job.fence.attempt > saved->second.attempt)
    REQUIRE(Place::of(job.checkpoint) >= saved->second,
            "checkpoint_recorded",
            job.id.str() + " attempt " + std::to_string(job.fence.attempt) + " begins at '" +
                job.checkpoint + "', recorded was " + saved->second.text());
  const bool is_its_own = is_sent([&](std::uint64_t content) {
    return content == durable->job.spec.content_hash || durable->job.attempt != job.fence.attempt;
  });
  REQUIRE(is_its_own, "runs_what_was_sent", job.id.str() + " got '" + job.payload + "'");
  // Else it was given up before it came here, and its job is due anew.
  const bool is_newest =
      durable->job.fence() == job.fence && durable->job.state == JobState::running;
  if (is_clock_true && is_newest)
    REQUIRE(wall_ms >= durable->job.due_ms - kEarlyMs,
            "never_early",
            std::to_string(durable->job.due_ms - wall_ms) + " ms too early: " + text(durable->job));
}

void Ledger::saved(const JobId& id, const Place& place) {
  if (is_excused(id)) return;
  const Durable* durable = known(id);
  REQUIRE(durable != nullptr && Place::of(durable->job.checkpoint) >= place,
          "checkpoint_recorded",
          id.str() + " was told that its checkpoint " + place.text() + " is recorded, which is '" +
              (durable == nullptr ? "" : durable->job.checkpoint) + "'");
  Place& furthest = saved_[id];
  furthest = std::max(furthest, place);
}

void Ledger::audit(bool all_ended, std::int64_t wall_ms) const {
  for (const auto& [id, told] : told_) {
    const Durable* durable = known(id);
    REQUIRE(durable != nullptr, "no_accepted_job_lost", "gone: " + id.str());
    if (!all_ended || durable->is_removed) continue;
    REQUIRE(at_risk_.empty(),
            "no_accepted_job_lost",
            "not put back: " + at_risk_.begin()->first.str());
    REQUIRE(has_come_to_rest(durable->job, wall_ms),
            "liveness",
            "does not end: " + text(durable->job) + " due in " +
                std::to_string(durable->job.due_ms - wall_ms) + " ms");
  }
}

}  // namespace sluice::sim
