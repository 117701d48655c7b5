#include "broker/store/view_row.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <type_traits>
#include <unordered_map>

#include "broker/store/job_fields.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// ---------------------------------------------------------------- values as text

template <typename T>
std::string text_of(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return std::string(to_string(value));
  } else if constexpr (std::is_same_v<T, bool>) {
    return value ? "1" : "0";
  } else {
    char buffer[32];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
    return {buffer, end};
  }
}

std::string text_of(const std::string& text) {
  return text;
}

struct JsonWriter {
  Json& json;

  template <typename T>
  void operator()(unsigned, const char* name, bool is_always, const T& value) {
    if (!is_always && value == T{}) return;
    if constexpr (std::is_enum_v<T>)
      json[name] = to_string(value);
    else
      json[name] = value;
  }
};

std::string text_of(const std::vector<std::string>& texts) {
  return dump(Json(texts));
}

std::string text_of(const std::vector<Header>& headers) {
  Json json = Json::array();
  for (const Header& header : headers)
    json.push_back({header.name, header.value});
  return dump(json);
}

std::string text_of(const std::vector<AttemptRecord>& attempts) {
  Json json = Json::array();
  for (const AttemptRecord& attempt : attempts) {
    JsonWriter writer{json.emplace_back(Json::object())};
    visit_attempt(writer, attempt);
  }
  return dump(json);
}

// ---------------------------------------------------------------- and back

std::optional<JobState> parse(std::string_view word, JobState) {
  return parse_job_state(word);
}

std::optional<Priority> parse(std::string_view word, Priority) {
  return parse_priority(word);
}

std::optional<AttemptEnd> parse(std::string_view word, AttemptEnd) {
  return parse_attempt_end(word);
}

template <typename T>
bool read_text(std::string_view text, T& value) {
  if constexpr (std::is_enum_v<T>) {
    const auto word = parse(text, value);
    if (word) value = *word;
    return word.has_value();
  } else if constexpr (std::is_same_v<T, bool>) {
    value = text == "1";
    return text == "1" || text == "0";
  } else {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
  }
}

bool read_text(std::string_view text, std::string& value) {
  value.assign(text);
  return true;
}

bool read_text(std::string_view text, std::vector<std::string>& values) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array()) return false;
  for (const Json& item : json) {
    if (!item.is_string()) return false;
    values.push_back(item.get<std::string>());
  }
  return true;
}

bool read_text(std::string_view text, std::vector<Header>& headers) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array()) return false;
  for (const Json& item : json) {
    if (!item.is_array() || item.size() != 2 || !item[0].is_string() || !item[1].is_string())
      return false;
    headers.push_back({item[0].get<std::string>(), item[1].get<std::string>()});
  }
  return true;
}

struct JsonReader {
  const Json& json;
  bool is_good = true;

  template <typename T>
  void operator()(unsigned, const char* name, bool, T& value) {
    const auto found = json.find(name);
    if (found == json.end()) return;
    if constexpr (std::is_enum_v<T>) {
      is_good = is_good && found->is_string() && read_text(found->get<std::string>(), value);
    } else if constexpr (std::is_same_v<T, std::string>) {
      is_good = is_good && found->is_string();
      if (is_good) value = found->get<std::string>();
    } else {
      is_good = is_good && found->is_number_integer();
      if (is_good) value = found->get<T>();
    }
  }
};

bool read_text(std::string_view text, std::vector<AttemptRecord>& attempts) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_array()) return false;
  for (Json& item : json) {
    if (!item.is_object()) return false;
    // An older data directory calls it `end`.
    if (const auto old = item.find("end"); old != item.end()) item["outcome"] = Json(*old);
    JsonReader reader{item};
    visit_attempt(reader, attempts.emplace_back());
    if (!reader.is_good) return false;
  }
  return true;
}

// ---------------------------------------------------------------- the hash

struct FieldsWriter {
  FieldPairs& fields;

  template <typename T>
  void operator()(unsigned, const char* name, bool is_always, const T& value, const T& normal) {
    if (is_always || !(value == normal)) fields.emplace_back(name, text_of(value));
  }

  template <typename S>
  void operator()(unsigned, const char* name, bool, Bytes<S> bytes, Bytes<S>) {
    if (!bytes.value.empty()) fields.emplace_back(name, bytes.value);
  }
};

// The number of each field by its name. Most fields of a job are absent: looking for each in turn
// is a fifth of what a broker computes at its start.
class FieldNumbers {
 public:
  FieldNumbers() {
    const Job any;
    visit_job(*this, any);
    numbers_.emplace("payload", kPayloadNumber);
  }

  template <typename T>
  void operator()(unsigned number, const char* name, bool, const T&) {
    numbers_.emplace(name, number);
  }

  // 0: no field of ours.
  [[nodiscard]] unsigned of(std::string_view name) const {
    const auto found = numbers_.find(name);
    return found == numbers_.end() ? 0 : found->second;
  }

 private:
  std::unordered_map<std::string_view, unsigned> numbers_;
};

class FieldsReader {
 public:
  explicit FieldsReader(const FieldPairs& fields) {
    static const FieldNumbers kNumbers;
    for (const auto& [name, text] : fields)
      texts_[kNumbers.of(name)] = &text;
  }

  template <typename T>
  void operator()(unsigned number, const char* name, bool is_always, T& value) {
    const std::string* text = texts_[number];
    if (text == nullptr ? is_always : !read_text(*text, value)) bad_ = name;
  }

  template <typename S>
  void operator()(unsigned number, const char*, bool, Bytes<S> bytes) {
    if (const std::string* text = texts_[number]) bytes.value = *text;
  }

  [[nodiscard]] bool has(unsigned number) const { return texts_[number] != nullptr; }

  // The field that is missing or has no value of it; null when there is none.
  [[nodiscard]] const char* bad() const { return bad_; }

 private:
  std::array<const std::string*, kPayloadNumber + 1> texts_{};  // by number
  const char* bad_ = nullptr;
};

void put_u64(std::string& blob, std::uint64_t value) {
  for (unsigned shift = 0; shift < 64; shift += 8)
    blob.push_back(static_cast<char>(value >> shift));
}

std::uint64_t get_u64(std::string_view bytes, std::size_t at) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < 8; ++i)
    value |= std::uint64_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  return value;
}

bool loses_payload(const Job& job) {
  return job.state == JobState::completed && !job.spec.keep_payload;
}

constexpr std::size_t kEndedBytes = 32;
// Of the last eight: the state in 3 bits, finished_ms in 42 (till 2109), and in 19 the minutes from
// there until retention removed it, rounded up; 0 = with its end. What was kept for longer than
// these minutes can tell has a later finished_ms instead.
constexpr unsigned kFinishedAt = 3;
constexpr unsigned kMinutesAt = 45;
constexpr std::uint64_t kFinishedMask = (std::uint64_t{1} << 42) - 1;
constexpr std::int64_t kMinutesMax = (1 << 19) - 1;
constexpr std::int64_t kMinuteMs = 60'000;

std::uint64_t packed_end(const EndedRecord& record) {
  std::int64_t minutes = 0, finished_ms = record.finished_ms;
  if (record.removed_ms > finished_ms) {
    minutes = std::min((record.removed_ms - finished_ms + kMinuteMs - 1) / kMinuteMs, kMinutesMax);
    finished_ms = std::max(finished_ms, record.removed_ms - minutes * kMinuteMs);
  }
  return static_cast<std::uint64_t>(minutes) << kMinutesAt |
         (static_cast<std::uint64_t>(finished_ms) & kFinishedMask) << kFinishedAt |
         static_cast<std::uint64_t>(record.state);
}

}  // namespace

FieldPairs to_fields(const ViewRow& row) {
  static const Job kDefaults;
  FieldPairs fields;
  fields.reserve(24);
  FieldsWriter writer{fields};
  visit_job(writer, row.job, kDefaults);
  if (row.has_payload && !loses_payload(row.job))
    fields.emplace_back("payload", row.job.spec.payload);
  return fields;
}

Result<Job> from_fields(std::string_view id, const FieldPairs& fields) {
  Job job;
  if (id.empty() || id.size() > kIdBytesMax)
    return fail(ErrorCode::malformed, "id", "not a job id");
  job.spec.id = JobId(id);
  FieldsReader reader(fields);
  visit_job(reader, job);
  reader(kPayloadNumber, "payload", false, Bytes{job.spec.payload});
  if (reader.bad() != nullptr)
    return fail(ErrorCode::malformed, reader.bad(), "missing, or not a value of this field");
  job.is_payload_lost = !reader.has(kPayloadNumber) && !loses_payload(job);
  return job;
}

bool keeps_old_payload(const ViewRow& row) {
  return !row.has_payload && !loses_payload(row.job);
}

double index_score(const Job& job) {
  constexpr double kPriorityStep = 2251799813685248.0;  // 2^51
  switch (job.state) {
    case JobState::pending:
      return static_cast<double>(job.due_ms);
    case JobState::queued:
      return static_cast<double>(3 - static_cast<int>(job.spec.priority)) * kPriorityStep +
             static_cast<double>(job.sequence);
    case JobState::running:
      return static_cast<double>(job.started_ms);
    default:
      return static_cast<double>(after(job.finished_ms, job.spec.keep_result_ms));
  }
}

bool matches(const Filter& filter, const Job& job) {
  const auto fits = [](const std::string& wanted, const std::string& value) {
    return wanted.empty() || wanted == value;
  };
  const auto& tags = job.spec.tags;
  return fits(filter.queue, job.spec.queue) && fits(filter.task, job.spec.task) &&
         fits(filter.error_code, job.error_code) &&
         (filter.tag.empty() || std::find(tags.begin(), tags.end(), filter.tag) != tags.end());
}

void append_ended(std::string& blob, const EndedRecord& record) {
  put_u64(blob, record.id.high);
  put_u64(blob, record.id.low);
  put_u64(blob, record.content_hash);
  put_u64(blob, packed_end(record));
}

EndedRecord ended_record(const Job& job) {
  return {hash_id(job.id().view()), job.spec.content_hash, job.state, job.finished_ms};
}

void read_ended(std::string_view blob, std::vector<EndedRecord>& records) {
  for (std::size_t at = 0; at + kEndedBytes <= blob.size(); at += kEndedBytes) {
    const std::uint64_t end = get_u64(blob, at + 24);
    const auto state = static_cast<JobState>(end & 7);
    if (state < JobState::completed || state > JobState::cancelled) continue;
    const auto finished_ms = static_cast<std::int64_t>(end >> kFinishedAt & kFinishedMask);
    const auto minutes = static_cast<std::int64_t>(end >> kMinutesAt);
    records.push_back({{get_u64(blob, at), get_u64(blob, at + 8)},
                       get_u64(blob, at + 16),
                       state,
                       finished_ms,
                       minutes > 0 ? finished_ms + minutes * kMinuteMs : 0});
  }
}

}  // namespace sluice
