#include "broker/store/log_entry.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <type_traits>

#include "broker/store/job_fields.h"
#include "broker/store/view_row.h"
#include "common/protocol/msgpack.h"

namespace sluice {

namespace {

enum EntryKey : unsigned {
  kN = 0,
  kEpoch,
  kJobs,
  kRemoved,
  kQueues,
  kNextSequence,
  kRemovedEnded
};

const Job kDefaultJob;
const AttemptRecord kDefaultAttempt;

// ---------------------------------------------------------------- writing

// A map whose number of entries is known when it is closed: a map16 head, filled in afterwards.
class OpenMap {
 public:
  explicit OpenMap(std::string& out) : out_(out), at_(out.size()) { out_.append("\xde\0\0", 3); }

  OpenMap(const OpenMap&) = delete;
  OpenMap& operator=(const OpenMap&) = delete;

  ~OpenMap() {
    out_[at_ + 1] = static_cast<char>(count_ >> 8);
    out_[at_ + 2] = static_cast<char>(count_ & 0xff);
  }

  void add() { ++count_; }

 private:
  std::string& out_;
  std::size_t at_;
  unsigned count_ = 0;
};

class FieldWriter {
 public:
  FieldWriter(std::string& out, std::string_view id) : out_(out), writer_(out), map_(out) {
    if (id.empty()) return;
    key(0);
    writer_.str(id);
  }

  template <typename T>
  void operator()(unsigned number, const char*, bool, const T& value, const T& normal) {
    if (value == normal) return;
    key(number);
    put(value);
  }

  template <typename S>
  void operator()(unsigned number, const char*, bool, Bytes<S> bytes, Bytes<S>) {
    if (bytes.value.empty()) return;
    key(number);
    writer_.bin(bytes.value);
  }

  void payload(std::string_view bytes) {
    key(kPayloadNumber);
    writer_.bin(bytes);
  }

 private:
  void key(unsigned number) {
    map_.add();
    writer_.unsigned_integer(number);
  }

  template <typename T>
  void put(const T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      writer_.boolean(value);
    } else if constexpr (std::is_enum_v<T>) {
      writer_.unsigned_integer(static_cast<std::uint64_t>(value));
    } else if constexpr (std::is_floating_point_v<T>) {
      writer_.real(value);
    } else if constexpr (std::is_signed_v<T>) {
      writer_.integer(value);
    } else {
      writer_.unsigned_integer(value);
    }
  }

  void put(const std::string& text) { writer_.str(text); }

  void put(const std::vector<std::string>& texts) {
    writer_.array(texts.size());
    for (const std::string& text : texts)
      writer_.str(text);
  }

  void put(const std::vector<Header>& headers) {
    writer_.array(headers.size() * 2);
    for (const Header& header : headers) {
      writer_.str(header.name);
      writer_.str(header.value);
    }
  }

  void put(const std::vector<AttemptRecord>& attempts) {
    writer_.array(attempts.size());
    for (const AttemptRecord& attempt : attempts) {
      FieldWriter fields(out_, {});
      visit_attempt(fields, attempt, kDefaultAttempt);
    }
  }

  std::string& out_;
  msgpack::Writer writer_;
  OpenMap map_;
};

void write_queue(std::string& out, const QueueRecord& queue) {
  msgpack::Writer writer(out);
  writer.array(3);
  writer.str(queue.name);
  writer.boolean(queue.is_paused);
  writer.array(9);
  visit_totals([&](unsigned, const char*, std::uint64_t total) { writer.unsigned_integer(total); },
               queue.totals);
}

// ---------------------------------------------------------------- reading

// Reads one map of ascending number keys. visit_job() and visit_attempt() ask for their fields in
// the same order, so each key is looked at once; keys that nobody asks for are passed over. A field
// that is not there keeps its default.
class FieldReader {
 public:
  explicit FieldReader(msgpack::Reader& reader) : reader_(reader) {
    left_ = reader.map().value_or(0);
    next_key();
  }

  template <typename T>
  void operator()(unsigned number, const char*, bool, T& value) {
    if (!find(number)) return;
    take(value);
    next_key();
  }

  template <typename S>
  void operator()(unsigned number, const char*, bool, Bytes<S> bytes) {
    take_bytes(number, bytes.value);
  }

  template <typename Text>
  bool take_bytes(unsigned number, Text& value) {
    if (!find(number)) return false;
    if (const auto bytes = reader_.bin())
      value = *bytes;
    else
      is_bad_ = true;
    next_key();
    return true;
  }

  // Whether all went well; passes over what is left.
  [[nodiscard]] bool finish() {
    find(std::numeric_limits<unsigned>::max());
    return !is_bad_ && reader_.ok();
  }

 private:
  void next_key() {
    key_.reset();
    if (left_ == 0 || is_bad_) return;
    --left_;
    const auto key = reader_.unsigned_integer();
    if (key)
      key_ = *key;
    else
      is_bad_ = true;
  }

  bool find(unsigned number) {
    while (key_ && *key_ < number) {
      if (!reader_.skip()) is_bad_ = true;
      next_key();
    }
    return key_ == number;
  }

  template <typename T>
  void take(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      keep(reader_.boolean(), value);
    } else if constexpr (std::is_enum_v<T>) {
      const auto number = reader_.unsigned_integer();
      // State and attempt ends have six words, priorities four.
      constexpr std::uint64_t kWords = std::is_same_v<T, Priority> ? kPriorities : kJobStates;
      if (number && *number < kWords)
        value = static_cast<T>(*number);
      else
        is_bad_ = true;
    } else if constexpr (std::is_floating_point_v<T>) {
      keep(reader_.real(), value);
    } else if constexpr (std::is_signed_v<T>) {
      keep(reader_.integer(), value);
    } else {
      const auto number = reader_.unsigned_integer();
      if (number && *number <= std::numeric_limits<T>::max())
        value = static_cast<T>(*number);
      else
        is_bad_ = true;
    }
  }

  void take(std::string& text) { keep(reader_.str(), text); }

  void take(std::string_view& text) { keep(reader_.str(), text); }

  void take(std::vector<std::string>& texts) {
    texts.resize(count());
    for (std::string& text : texts)
      take(text);
  }

  void take(std::vector<Header>& headers) {
    headers.resize(count() / 2);
    for (Header& header : headers) {
      take(header.name);
      take(header.value);
    }
  }

  void take(std::vector<AttemptRecord>& attempts) {
    const std::size_t size = count();
    attempts.clear();
    for (std::size_t i = 0; i < size && !is_bad_; ++i) {
      FieldReader fields(reader_);
      visit_attempt(fields, attempts.emplace_back());
      if (!fields.finish()) is_bad_ = true;
    }
  }

  std::size_t count() {
    const auto read = reader_.array();
    if (!read) is_bad_ = true;
    return read.value_or(0);
  }

  template <typename Read, typename T>
  void keep(const std::optional<Read>& read, T& value) {
    if (read)
      value = *read;
    else
      is_bad_ = true;
  }

  msgpack::Reader& reader_;
  std::uint32_t left_ = 0;
  std::optional<std::uint64_t> key_;
  bool is_bad_ = false;
};

bool read_id(msgpack::Reader& reader, JobId& id) {
  const auto text = reader.str();
  if (!text || text->empty() || text->size() > kIdBytesMax) return false;
  id = JobId(*text);
  return true;
}

bool read_id(msgpack::Reader& reader, std::string_view& id) {
  id = reader.str().value_or(std::string_view());
  return !id.empty() && id.size() <= kIdBytesMax;
}

bool read_job(msgpack::Reader& reader, ViewRow& row) {
  std::string id;
  FieldReader fields(reader);
  fields(0, "id", true, id);
  if (id.empty() || id.size() > kIdBytesMax) return false;
  row.job.spec.id = JobId(id);
  visit_job(fields, row.job);
  row.has_payload = fields.take_bytes(kPayloadNumber, row.job.spec.payload);
  return fields.finish();
}

// visit_job() over a head: the same numbers in the same order.
bool read_job(msgpack::Reader& reader, RecordHead& head) {
  const std::size_t begin = reader.position();
  FieldReader fields(reader);
  fields(0, "id", true, head.id);
  if (head.id.empty() || head.id.size() > kIdBytesMax) return false;
  visit_head(fields, head);
  head.has_payload = fields.take_bytes(kPayloadNumber, head.payload);
  if (!fields.finish()) return false;
  head.bytes = reader.since(begin);
  return true;
}

bool read_queue(msgpack::Reader& reader, QueueRecord& queue) {
  if (reader.array() != 3u) return false;
  const auto name = reader.str();
  const auto is_paused = reader.boolean();
  const auto totals = reader.array();
  if (!name || !is_paused || totals != 9u) return false;
  queue.name.assign(*name);
  queue.is_paused = *is_paused;
  visit_totals(
      [&](unsigned, const char*, std::uint64_t& total) {
        total = reader.unsigned_integer().value_or(0);
      },
      queue.totals);
  return reader.ok();
}

constexpr std::size_t kReservedMax = 4096;

template <typename T>
bool read_all(msgpack::Reader& reader, std::vector<T>& items, bool (*read)(msgpack::Reader&, T&)) {
  const auto count = reader.array();
  if (!count) return false;
  items.reserve(
      std::min<std::size_t>(*count, kReservedMax));  // a header alone may promise anything
  for (std::uint32_t i = 0; i < *count; ++i)
    if (!read(reader, items.emplace_back())) return false;
  return true;
}

bool read_number(msgpack::Reader& reader, std::uint64_t& value) {
  const auto read = reader.unsigned_integer();
  value = read.value_or(0);
  return read.has_value();
}

template <typename Job, typename Id>
bool read_part(msgpack::Reader& reader, std::uint64_t key, Entry<Job, Id>& entry) {
  switch (key) {
    case kN:
      return read_number(reader, entry.n);
    case kEpoch:
      return read_number(reader, entry.epoch);
    case kJobs:
      return read_all<Job>(reader, entry.jobs, read_job);
    case kRemoved:
      return read_all<Id>(reader, entry.removed, read_id);
    case kQueues:
      return read_all(reader, entry.queues, read_queue);
    case kNextSequence:
      return read_number(reader, entry.next_sequence);
    case kRemovedEnded: {
      const auto records = reader.bin();
      if (records) entry.removed_ended.assign(*records);
      return records.has_value();
    }
    default:
      return reader.skip().has_value();
  }
}

}  // namespace

std::string encode_entry(std::uint64_t n, std::uint64_t epoch, const BatchWrites& writes) {
  std::string blob;
  blob.reserve(64 + writes.jobs.size() * 256);
  msgpack::Writer writer(blob);
  const bool has_ended = !writes.removed.empty() || !writes.ended.empty();
  writer.map(has_ended ? 7 : 6);
  writer.unsigned_integer(kN);
  writer.unsigned_integer(n);
  writer.unsigned_integer(kEpoch);
  writer.unsigned_integer(epoch);
  writer.unsigned_integer(kJobs);
  writer.array(writes.jobs.size());
  for (const JobChange& change : writes.jobs) {
    FieldWriter fields(blob, change.job->id().view());
    visit_job(fields, *change.job, kDefaultJob);
    if (change.has_payload) fields.payload(change.job->spec.payload);
  }
  writer.unsigned_integer(kRemoved);
  writer.array(writes.removed.size());
  for (const RemovedJob& removed : writes.removed)
    writer.str(removed.id.view());
  writer.unsigned_integer(kQueues);
  writer.array(writes.queues.size());
  for (const QueueRecord* queue : writes.queues)
    write_queue(blob, *queue);
  writer.unsigned_integer(kNextSequence);
  writer.unsigned_integer(writes.next_sequence);
  if (!has_ended) return blob;
  std::string records;
  for (const EndedRecord& ended : writes.ended)
    append_ended(records, ended);
  for (const RemovedJob& removed : writes.removed)
    append_ended(records, removed.ended);
  writer.unsigned_integer(kRemovedEnded);
  writer.bin(records);
  return blob;
}

namespace {

template <typename Read>
Result<Read> read_entry(std::string_view blob) {
  Read entry;
  msgpack::Reader reader(blob);
  const auto count = reader.map();
  bool is_good = count.has_value();
  for (std::uint32_t i = 0; is_good && i < *count; ++i) {
    const auto key = reader.unsigned_integer();
    is_good = key && read_part(reader, *key, entry);
  }
  if (!is_good || !reader.ok() || !reader.at_end())
    return fail(ErrorCode::malformed,
                "log",
                "the log entry is malformed at byte " + std::to_string(reader.position()));
  return entry;
}

}  // namespace

Result<DecodedEntry> decode_entry(std::string_view blob) {
  return read_entry<DecodedEntry>(blob);
}

Result<EntryHeads> read_heads(std::string_view blob) {
  return read_entry<EntryHeads>(blob);
}

Result<ViewRow> decode_record(std::string_view bytes) {
  ViewRow row;
  msgpack::Reader reader(bytes);
  if (!read_job(reader, row) || !reader.at_end())
    return fail(ErrorCode::malformed, "log", "the record of a job is malformed");
  return row;
}

}  // namespace sluice
