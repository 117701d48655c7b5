#include "common/job.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

namespace sluice {

namespace {

constexpr std::array<std::string_view, kJobStates> kStateWords = {
    "pending", "queued", "running", "completed", "failed", "cancelled"};
constexpr std::array<std::string_view, kPriorities> kPriorityWords = {
    "low", "normal", "high", "critical"};
constexpr std::array<std::string_view, 4> kOutcomeWords = {
    "completed", "failed", "cancelled", "handed_back"};
constexpr std::array<std::string_view, 6> kEndWords = {
    "completed", "failed", "cancelled", "handed_back", "lost", "timed_out"};

template <typename Enum, std::size_t Size>
std::optional<Enum> parse_word(const std::array<std::string_view, Size>& words,
                               std::string_view word) {
  for (std::size_t i = 0; i < Size; ++i)
    if (words[i] == word) return static_cast<Enum>(i);
  return std::nullopt;
}

// The hash of a list of fields. A text stands with its length before it, a number in as many bytes
// as it needs (LEB128), so that no two lists look alike and most jobs take few bytes. A long text
// stands by its own hash, and a full buffer goes on with the hash of what was in it: nothing is
// allocated, and a payload of 1 MiB is not copied.
class Fields {
 public:
  void add(std::string_view text) {
    add(text.size());
    if (text.size() > kTextBytesMax) return add(hash64(text));
    make_room(text.size());
    std::copy(text.begin(), text.end(), buffer_.data() + size_);
    size_ += text.size();
  }

  void add(std::uint64_t number) {
    make_room(10);
    for (; number >= 0x80; number >>= 7)
      buffer_[size_++] = static_cast<char>(number | 0x80);
    buffer_[size_++] = static_cast<char>(number);
  }

  void add(std::int64_t number) { add(static_cast<std::uint64_t>(number)); }

  void add(double number) { add(std::bit_cast<std::uint64_t>(number)); }

  [[nodiscard]] std::uint64_t hash() const { return hash64({buffer_.data(), size_}); }

 private:
  static constexpr std::size_t kTextBytesMax = 256;

  void make_room(std::size_t bytes) {
    if (size_ + bytes <= buffer_.size()) return;
    const std::uint64_t so_far = hash();
    size_ = 0;
    add(so_far);
  }

  std::array<char, 1024> buffer_;  // filled up to size_
  std::size_t size_ = 0;
};

}  // namespace

std::string_view to_string(JobState state) {
  return kStateWords.at(static_cast<std::size_t>(state));
}

std::string_view to_string(Priority priority) {
  return kPriorityWords.at(static_cast<std::size_t>(priority));
}

std::string_view to_string(Outcome outcome) {
  return kOutcomeWords.at(static_cast<std::size_t>(outcome));
}

std::string_view to_string(AttemptEnd end) {
  return kEndWords.at(static_cast<std::size_t>(end));
}

std::optional<JobState> parse_job_state(std::string_view word) {
  return parse_word<JobState>(kStateWords, word);
}

std::optional<Priority> parse_priority(std::string_view word) {
  return parse_word<Priority>(kPriorityWords, word);
}

std::optional<Outcome> parse_outcome(std::string_view word) {
  return parse_word<Outcome>(kOutcomeWords, word);
}

std::optional<AttemptEnd> parse_attempt_end(std::string_view word) {
  return parse_word<AttemptEnd>(kEndWords, word);
}

bool is_legal_move(JobState from, JobState to) {
  switch (from) {
    case JobState::pending:
      return to == JobState::queued || to == JobState::failed || to == JobState::cancelled;
    case JobState::queued:
      return to == JobState::running || to == JobState::failed || to == JobState::cancelled;
    case JobState::running:
      return to != JobState::running;
    case JobState::completed:
      return false;
    case JobState::failed:
    case JobState::cancelled:
      return to == JobState::queued;
  }
  return false;
}

std::uint64_t content_hash_of(const JobSpec& spec) {
  Fields fields;
  fields.add(spec.task);
  fields.add(spec.queue);
  fields.add(spec.payload);
  fields.add(spec.content_type);
  fields.add(static_cast<std::uint64_t>(spec.priority));
  fields.add(spec.delay_ms);
  fields.add(spec.run_at_ms);
  fields.add(spec.expires_at_ms);
  fields.add(spec.timeout_ms);
  fields.add(std::uint64_t{spec.retry.max_retries});
  fields.add(spec.retry.base_ms);
  fields.add(spec.retry.factor);
  fields.add(spec.retry.cap_ms);
  fields.add(spec.retry.jitter);
  fields.add(spec.keep_result_ms);
  fields.add(std::uint64_t{spec.keep_payload});
  fields.add(spec.tags.size());
  for (const std::string& tag : spec.tags)
    fields.add(tag);
  fields.add(spec.headers.size());
  for (const Header& header : spec.headers) {
    fields.add(header.name);
    fields.add(header.value);
  }
  return fields.hash();
}

}  // namespace sluice
