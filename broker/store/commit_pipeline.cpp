#include "broker/store/commit_pipeline.h"

#include <algorithm>

#include "common/check.h"
#include "common/mutant.h"

namespace sluice {

CommitPipeline::CommitPipeline(std::string owner,
                               std::string run_id,
                               std::uint64_t epoch,
                               std::uint64_t replaced_epoch,
                               std::uint64_t last,
                               const std::vector<LogEntryPtr>& unprojected,
                               Now now)
    : owner_(std::move(owner)),
      run_id_(std::move(run_id)),
      epoch_(epoch),
      replaced_epoch_(std::max<std::uint64_t>(replaced_epoch, 1)),
      appended_(last),
      confirmed_(last),
      logged_(last),
      next_(last + 1),
      given_(last) {
  ring_bytes_counted_ = last;
  // Up to the first gap: numbers that a take-over jumped over stand in no log.
  for (auto entry = unprojected.rbegin(); entry != unprojected.rend(); ++entry) {
    if ((*entry)->n + 1 != ring_first()) break;
    ring_bytes_ += (*entry)->blob.size();
    items_.push_front({*entry, now.mono_ms});
  }
}

void CommitPipeline::append(LogEntryPtr entry, Now now) {
  CHECK(entry->n == next_n());
  items_.push_back({std::move(entry), now.mono_ms});
  ++appended_;
}

std::optional<CommitRequest> CommitPipeline::next(Now now) {
  if (!is_connected_ || next_ > appended_ || now.mono_ms < rest_until_ms_) return std::nullopt;
  if (is_rewinding_ && !in_flight_.empty()) return std::nullopt;
  is_rewinding_ = false;
  if (in_flight_.size() >= kInFlightMax) return std::nullopt;
  in_flight_.push_back(next_);
  return CommitRequest{epoch_, item(next_++).entry};
}

std::vector<LogEntryPtr> CommitPipeline::take_confirmed() {
  std::vector<LogEntryPtr> entries;
  for (; given_ < confirmed_; ++given_)
    entries.push_back(item(given_ + 1).entry);
  return entries;
}

std::int64_t CommitPipeline::oldest_age_ms(Now now) const {
  return confirmed_ == appended_ ? 0 : now.mono_ms - item(confirmed_ + 1).since_ms;
}

// Of a few batches, see has_room().
std::size_t CommitPipeline::unconfirmed_bytes() const {
  std::size_t bytes = 0;
  for (std::uint64_t n = confirmed_ + 1; n <= appended_; ++n)
    bytes += item(n).entry->blob.size();
  return bytes;
}

std::int64_t CommitPipeline::patience_ms() const {
  return kDownAfterMs + static_cast<std::int64_t>(unconfirmed_bytes() / kSlowBytesPerMs);
}

std::int64_t CommitPipeline::next_deadline_mono_ms() const {
  return is_connected_ && next_ <= appended_ && rest_until_ms_ > 0 ? rest_until_ms_ : kNever;
}

CommitPipeline::Verdict CommitPipeline::on_reply(const CommitReply& reply, Now now) {
  if (!in_flight_.empty()) in_flight_.pop_front();
  switch (reply.answer) {
    case CommitAnswer::ok:
    case CommitAnswer::already:
      rest_until_ms_ = 0;
      // Put back: Redis may lose it again, so its time in the ring begins anew.
      if (reply.n <= confirmed_ && reply.n >= ring_first())
        items_[reply.n - ring_first()].since_ms = now.mono_ms;
      logged_ = std::max(logged_, reply.n);
      confirm(reply.n, now);
      return Verdict::fine;
    case CommitAnswer::gap:
      // After a refusal the batches behind it meet a gap: from the last one that stands, again. A
      // log that ends before what was confirmed has lost something.
      if (reply.value < logged_) return Verdict::resync;
      rewind(reply.value + 1);
      return Verdict::fine;
    case CommitAnswer::rolled_back:
      return Verdict::resync;
    case CommitAnswer::fenced:
      return Verdict::fenced;
  }
  return Verdict::fine;
}

void CommitPipeline::confirm(std::uint64_t n, Now now) {
  // However long it had to wait for its Redis, that may lose it only now.
  while (confirmed_ < n)
    items_[++confirmed_ - ring_first()].since_ms = now.mono_ms;
  trim_ring(now);
}

void CommitPipeline::rewind(std::uint64_t n) {
  if (n >= next_) return;
  next_ = n;
  is_rewinding_ = true;
}

// Drops confirmed entries that are too old or too many; never one that the projector has not had.
void CommitPipeline::trim_ring(Now now) {
  for (; ring_bytes_counted_ < confirmed_; ++ring_bytes_counted_)
    ring_bytes_ += item(ring_bytes_counted_ + 1).entry->blob.size();
  if (MUTANT(ring_forgets_nothing)) return;
  while (!items_.empty() && ring_first() <= std::min(given_, logged_)) {
    const Item& oldest = items_.front();
    const bool is_old = oldest.since_ms + kRingMs < now.mono_ms;
    if (!is_old && ring_bytes_ <= kRingBytes) break;
    ring_bytes_ -= oldest.entry->blob.size();
    items_.pop_front();
  }
}

void CommitPipeline::on_refused(Now now) {
  if (in_flight_.empty()) return;
  rewind(in_flight_.front());
  in_flight_.pop_front();
  rest_until_ms_ = now.mono_ms + kRefusedRestMs;
}

void CommitPipeline::on_disconnected() {
  is_connected_ = false;
  in_flight_.clear();
  is_rewinding_ = false;
  next_ = logged_ + 1;
}

CommitPipeline::Verdict CommitPipeline::on_connected(const StoreConnected& connected) {
  const StoreMeta& meta = connected.meta;
  // A newer epoch of our own is a take-over whose answer never came: resync takes it once more. One
  // of another that is not what we replaced was taken after us, even if it is lower than ours: the
  // same numbers may stand for other batches there.
  if (meta.exists && meta.epoch > replaced_epoch_ && meta.owner != owner_) return Verdict::fenced;
  const bool is_ours = meta.exists && meta.epoch == epoch_ && connected.run_id == run_id_;
  run_id_ = connected.run_id;
  if (!is_ours || meta.last < confirmed_) return Verdict::resync;
  is_connected_ = true;
  rest_until_ms_ = 0;
  // What came through before the connection broke is confirmed by the `already` of its resend.
  next_ = confirmed_ + 1;
  return Verdict::fine;
}

CommitPipeline::Plan CommitPipeline::plan_take_over(const StoreMeta& meta,
                                                    std::uint64_t unix_ms) const {
  Plan plan;
  plan.request.epoch = std::max({meta.epoch + 1, epoch_ + 1, unix_ms});
  plan.request.replaced_epoch = replaced_epoch_;
  const std::uint64_t last = meta.exists ? meta.last : 0;
  const std::uint64_t replay_from = ring_first();
  if (last + 1 < replay_from) {
    plan.missing = replay_from - 1 - last;
    plan.request.base = replay_from - 1;
  }
  return plan;
}

CommitPipeline::Verdict CommitPipeline::on_took_over(const TookOver& took,
                                                     const Plan& plan,
                                                     Now now) {
  if (!took.taken) return Verdict::fenced;
  epoch_ = plan.request.epoch;
  // It lost more between the plan and the take-over: a plan that knows it puts back the right ones.
  if (took.meta.last + 1 < ring_first()) return Verdict::resync;
  lost_batches_ += plan.missing;
  logged_ = std::min(took.meta.last, appended_);
  if (confirmed_ > logged_) replayed_missing_ += confirmed_ - logged_;
  // Appended by us before, found in the log now: known, though their answers never came.
  while (confirmed_ < logged_)
    items_[++confirmed_ - ring_first()].since_ms = now.mono_ms;
  next_ = logged_ + 1;
  in_flight_.clear();
  is_rewinding_ = false;
  is_connected_ = true;
  rest_until_ms_ = 0;
  return Verdict::fine;
}

std::optional<std::vector<LogEntryPtr>> CommitPipeline::entries_after(
    std::uint64_t checkpoint) const {
  if (checkpoint + 1 < ring_first()) return std::nullopt;
  std::vector<LogEntryPtr> entries;
  for (std::uint64_t n = checkpoint + 1; n <= confirmed_; ++n)
    entries.push_back(item(n).entry);
  return entries;
}

std::int64_t CommitPipeline::ring_covers_ms(Now now) const {
  if (items_.empty() || ring_first() > confirmed_) return kRingMs;
  return now.mono_ms - items_.front().since_ms;
}

}  // namespace sluice
