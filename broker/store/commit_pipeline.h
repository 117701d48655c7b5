// The way of batches into the log: up to four on their way, answered in order, sent again when
// their outcome is unknown, and the last seconds of confirmed ones kept for a Redis that lost them
// (the replay ring). Pure: the engine carries its requests to the Store and the answers back.
//
//   append(entry)  ->  next() while there is room  ->  on_reply()  ->  confirmed()
//
// Three numbers tell everything: `confirmed` (told to users, never goes back), `logged` (known to
// stand in the log of the Redis that answers now; below `confirmed` while a replay is under way),
// and `next` (what is to be sent next). A rewind only moves `next` back; sending a batch twice
// changes nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "broker/store/store.h"
#include "common/time.h"

namespace sluice {

class CommitPipeline {
 public:
  static constexpr std::size_t kInFlightMax = 4;
  static constexpr std::int64_t kRingMs = 10'000;
  static constexpr std::size_t kRingBytes = 256u << 20;
  static constexpr std::size_t kUnconfirmedBytesMax = 8u << 20;  // and one batch more
  static constexpr std::int64_t kDownAfterMs = 1000;    // busy while younger, see patience_ms()
  static constexpr std::size_t kSlowBytesPerMs = 4096;  // what the slowest disk that we serve takes
  static constexpr std::int64_t kRefusedRestMs = 100;

  // `replaced_epoch`: the one that was stored when this broker started; 0 = none.
  // `unprojected`: the newest entries of the log as open() found them, up to `last`. They are the
  // beginning of the ring: Redis may lose them a moment after we have started.
  CommitPipeline(std::string owner,
                 std::string run_id,
                 std::uint64_t epoch,
                 std::uint64_t replaced_epoch,
                 std::uint64_t last,
                 const std::vector<LogEntryPtr>& unprojected = {},
                 Now now = {});

  // ---- batches
  [[nodiscard]] std::uint64_t next_n() const { return appended_ + 1; }

  // Whether another batch may be appended; else what changes gathers in the core.
  [[nodiscard]] bool has_room() const {
    return appended_ - confirmed_ < kInFlightMax && unconfirmed_bytes() < kUnconfirmedBytesMax;
  }

  void append(LogEntryPtr entry, Now now);
  // The next request to send, while there is one.
  [[nodiscard]] std::optional<CommitRequest> next(Now now);

  [[nodiscard]] std::uint64_t confirmed() const { return confirmed_; }

  // Confirmed entries that the projector has not been given yet, in order.
  [[nodiscard]] std::vector<LogEntryPtr> take_confirmed();
  // How long the oldest unconfirmed batch has been waiting.
  [[nodiscard]] std::int64_t oldest_age_ms(Now now) const;
  // From which age on a store counts as down: kDownAfterMs, and the time that the bytes on their
  // way to it may take.
  [[nodiscard]] std::int64_t patience_ms() const;
  // When next() may have something again after a refusal; kNever when it waits for nothing.
  [[nodiscard]] std::int64_t next_deadline_mono_ms() const;

  // ---- answers
  enum class Verdict : std::uint8_t {
    fine,
    resync,  // the state is not the one that we left: ask plan_take_over()
    fenced,  // another broker owns it: say nothing more, leave
  };
  [[nodiscard]] Verdict on_reply(const CommitReply& reply, Now now);
  void on_refused(Now now);
  void on_disconnected();
  [[nodiscard]] Verdict on_connected(const StoreConnected& connected);

  // ---- resync
  struct Plan {
    TakeOver request;
    std::uint64_t missing =
        0;  // confirmed batches that can not be put back: write everything whole
  };

  // `unix_ms`: the wall clock, so that no epoch is given twice even when Redis comes back older.
  [[nodiscard]] Plan plan_take_over(const StoreMeta& meta, std::uint64_t unix_ms) const;
  // `resync`: taken, but the state is not the one that was planned for; plan again with took.meta.
  [[nodiscard]] Verdict on_took_over(const TookOver& took, const Plan& plan, Now now);

  // All that was confirmed stands in the log again.
  [[nodiscard]] bool is_replaying() const { return logged_ < confirmed_; }

  // The number of the first entry that the ring has.
  [[nodiscard]] std::uint64_t ring_first() const { return appended_ + 1 - items_.size(); }

  // The confirmed entries after `checkpoint`, for a view that went back. Nothing if the ring starts
  // later.
  [[nodiscard]] std::optional<std::vector<LogEntryPtr>> entries_after(
      std::uint64_t checkpoint) const;

  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }

  [[nodiscard]] std::uint64_t replayed_missing() const { return replayed_missing_; }

  [[nodiscard]] std::uint64_t lost_batches() const { return lost_batches_; }

  // How many seconds of confirmed batches the ring can put back.
  [[nodiscard]] std::int64_t ring_covers_ms(Now now) const;

 private:
  struct Item {
    LogEntryPtr entry;
    std::int64_t since_ms = 0;  // of its being appended; once confirmed, of its being in the log
  };

  [[nodiscard]] const Item& item(std::uint64_t n) const { return items_[n - ring_first()]; }

  [[nodiscard]] std::size_t unconfirmed_bytes() const;
  void confirm(std::uint64_t n, Now now);
  void rewind(std::uint64_t n);
  void trim_ring(Now now);

  std::string owner_;
  std::string run_id_;
  std::uint64_t epoch_;
  std::uint64_t replaced_epoch_;  // at least 1
  std::deque<Item> items_;  // the ring, then the unconfirmed; numbers without gaps up to appended_
  std::size_t ring_bytes_ = 0;            // of the confirmed entries in items_
  std::uint64_t ring_bytes_counted_ = 0;  // up to which number they are counted
  std::uint64_t appended_;
  std::uint64_t confirmed_;
  std::uint64_t logged_;
  std::uint64_t next_;
  std::uint64_t given_;                  // to the projector
  std::deque<std::uint64_t> in_flight_;  // sent on this connection, not answered
  bool is_connected_ = true;
  bool is_rewinding_ = false;  // wait for the answers of what is under way, then send again
  std::int64_t rest_until_ms_ = 0;
  std::uint64_t replayed_missing_ = 0;
  std::uint64_t lost_batches_ = 0;
};

}  // namespace sluice
