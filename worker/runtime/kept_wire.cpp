#include "worker/runtime/kept_wire.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <utility>

#include "common/base64.h"
#include "common/limits.h"
#include "common/utf8.h"
#include "worker/core/text.h"
#include "worker/runtime/payload.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::size_t kFrameLengthBytes = 4;
constexpr std::size_t kShownOfLineBytes = 80;

// ---------------------------------------------------------------- to the program

json::binary_t binary_of(const std::string& bytes) {
  return json::binary_t(std::vector<std::uint8_t>(bytes.begin(), bytes.end()));
}

bool has_bytes(const json& value) {
  if (value.is_binary()) return true;
  if (!value.is_structured()) return false;
  for (const auto& item : value)
    if (has_bytes(item)) return true;
  return false;
}

// Whether JSON can say it: msgpack has strings that are no UTF-8.
bool is_sayable(const json& value) {
  if (has_bytes(value)) return false;
  try {
    (void)value.dump();
    return true;
  } catch (const json::type_error&) {
    return false;
  }
}

void put_bytes(ordered_json& message, const std::string& key, const std::string& bytes) {
  if (is_utf8(bytes))
    message[key] = bytes;
  else
    message[key + "_base64"] = base64_of(bytes);
}

void put_payload(ordered_json& message, const RunJob& job) {
  if (job.payload.empty()) {
    message["payload"] = nullptr;
  } else if (job.content_type.starts_with("text/")) {
    put_bytes(message, "payload", job.payload);
  } else if (const auto value = payload_as_json(job.content_type, job.payload);
             value && is_sayable(*value)) {
    message["payload"] = *value;
  } else {
    message["payload_base64"] = base64_of(job.payload);
  }
}

std::string pack(const ordered_json& message, KeptProtocol protocol) {
  if (protocol == KeptProtocol::json)
    return message.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  std::string bytes(kFrameLengthBytes, '\0');
  ordered_json::to_msgpack(message, bytes);
  const auto length = static_cast<std::uint32_t>(bytes.size() - kFrameLengthBytes);
  for (std::size_t i = 0; i < kFrameLengthBytes; ++i)
    bytes[i] = static_cast<char>(length >> (24 - 8 * i));
  return bytes;
}

// ---------------------------------------------------------------- from the program

Result<PoolWord> wrong(std::string detail) {
  return fail(ErrorCode::malformed, "", std::move(detail));
}

// The keys of a map are all among these, or the first that is not, with what there is.
std::string unknown_key(const json& map, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : map.items()) {
    if (std::ranges::find(known, key) != known.end()) continue;
    std::string all;
    for (const std::string_view name : known)
      all += (all.empty() ? "" : ", ") + std::string(name);
    return "unknown key \"" + clean_text(key, kShownOfLineBytes) + "\"; there are " + all;
  }
  return {};
}

std::string bytes_of(const json& value, KeptProtocol protocol) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_binary()) return {value.get_binary().begin(), value.get_binary().end()};
  if (protocol == KeptProtocol::json)
    return value.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string bytes;
  json::to_msgpack(value, bytes);
  return bytes;
}

Result<PoolWord> read_error(const json& error, AttemptResult result) {
  result.outcome = Outcome::failed;
  result.error_code = "failed";
  if (error.is_string()) {
    result.error = error.get<std::string>();
    return result;
  }
  if (!error.is_object()) return wrong("\"error\" must be a text or a map");
  if (std::string unknown = unknown_key(error, {"code", "message", "retry", "retry_after_ms"});
      !unknown.empty())
    return wrong("in \"error\": " + unknown);
  const auto has = [&](const char* key) {
    return error.contains(key);
  };
  if (has("code") && !error["code"].is_string()) return wrong("\"code\" must be a text");
  if (has("message") && !error["message"].is_string()) return wrong("\"message\" must be a text");
  if (has("retry") && !error["retry"].is_boolean()) return wrong("\"retry\" must be true or false");
  const bool is_later = has("retry_after_ms");
  if (is_later && !error["retry_after_ms"].is_number_unsigned())
    return wrong("\"retry_after_ms\" must be a number of milliseconds");
  result.error_code = error.value("code", "failed");
  result.error = error.value("message", "");
  result.retryable = error.value("retry", true);
  // More than any delay is as much as the longest.
  if (is_later)
    result.retry_after_ms = static_cast<std::int64_t>(
        std::min<std::uint64_t>(error["retry_after_ms"].get<std::uint64_t>(),
                                std::uint64_t{kTenYearsMs}));
  return result;
}

Result<PoolWord> read_progress(const json& message, AttemptProgress progress) {
  const json& number = message["progress"];
  const double percent = number.is_number() ? number.get<double>() : -1;
  if (!(percent >= 0 && percent <= kPercentMax))  // no number is neither
    return wrong("\"progress\" must be a number from 0 to 100");
  progress.percent = static_cast<std::uint32_t>(percent);
  if (message.contains("message")) {
    if (!message["message"].is_string()) return wrong("\"message\" must be a text");
    progress.message = clean_text(message["message"].get<std::string>(), kProgressTextBytesMax);
  }
  if (message.contains("checkpoint")) {
    const json& checkpoint = message["checkpoint"];
    if (!checkpoint.is_string() && !checkpoint.is_binary())
      return wrong("\"checkpoint\" must be a text");
    progress.checkpoint = bytes_of(checkpoint, KeptProtocol::json);
    if (progress.checkpoint->size() > kCheckpointBytesMax)
      return wrong("\"checkpoint\" has at most " + std::to_string(kCheckpointBytesMax) + " bytes");
  }
  return progress;
}

Result<PoolWord> read_result(const json& message, AttemptResult result, KeptProtocol protocol) {
  if (message.contains("result")) {
    result.result = bytes_of(message["result"], protocol);
    return result;
  }
  const json& text = message["result_base64"];
  auto bytes = text.is_string() ? bytes_of_base64(text.get<std::string>()) : std::nullopt;
  if (!bytes) return wrong("\"result_base64\" is no base64");
  result.result = std::move(*bytes);
  return result;
}

}  // namespace

std::string kept_job(const RunJob& job, KeptProtocol protocol) {
  ordered_json message;
  message["id"] = job.id.str();
  message["attempt"] = job.fence.attempt;
  message["fence"] = job.fence.str();
  message["task"] = job.task;
  message["queue"] = job.queue;
  message["retry_count"] = job.retry_count;
  message["max_retries"] = job.max_retries;
  if (job.timeout_ms > 0) message["timeout_ms"] = job.timeout_ms;
  for (const Header& header : job.headers)
    message["headers"][header.name] = header.value;
  message["content_type"] = job.content_type;
  if (protocol == KeptProtocol::msgpack) {
    if (!job.checkpoint.empty()) message["checkpoint"] = binary_of(job.checkpoint);
    message["payload"] = binary_of(job.payload);
  } else {
    if (!job.checkpoint.empty()) put_bytes(message, "checkpoint", job.checkpoint);
    put_payload(message, job);
  }
  return pack(message, protocol);
}

std::string kept_stop(const JobId& id, KeptProtocol protocol) {
  ordered_json message;
  message["stop"] = id.str();
  return pack(message, protocol);
}

Result<PoolWord> read_kept(std::string_view message,
                           const JobId& id,
                           Fence fence,
                           KeptProtocol protocol) {
  const bool is_json = protocol == KeptProtocol::json;
  const auto map = payload_as_json(is_json ? "application/json" : "application/msgpack", message);
  if (!map || !map->is_object())
    return wrong(is_json ? "a line of stdout is no JSON object: " +
                               clean_text(message.substr(0, kShownOfLineBytes), kShownOfLineBytes)
                         : std::string("a frame of stdout is no msgpack map"));
  AttemptResult result;
  result.id = id;
  result.fence = fence;
  AttemptProgress progress{id, fence, 0, {}, {}};
  if (map->contains("id")) {
    const json& said = (*map)["id"];
    if (!said.is_string()) return wrong("\"id\" must be a text");
    if (said.get<std::string>() != id.view()) result.id = progress.id = JobId();  // nobody's
  }
  if (map->contains("progress")) {
    if (std::string unknown = unknown_key(*map, {"id", "progress", "message", "checkpoint"});
        !unknown.empty())
      return wrong(std::move(unknown));
    return read_progress(*map, std::move(progress));
  }
  for (const char* key : {"message", "checkpoint"})
    if (map->contains(key))
      return wrong("\"" + std::string(key) + "\" goes with \"progress\", a number from 0 to 100");
  if (std::string unknown = unknown_key(*map, {"id", "result", "result_base64", "error"});
      !unknown.empty())
    return wrong(std::move(unknown));
  const std::size_t ends = map->size() - (map->contains("id") ? 1 : 0);
  if (ends != 1) return wrong("one of \"result\", \"error\" and \"progress\" must be there");
  if (map->contains("error")) return read_error((*map)["error"], std::move(result));
  return read_result(*map, std::move(result), protocol);
}

// ---------------------------------------------------------------- the stream

PoolWire::Fill KeptReader::fill(int fd) {
  constexpr std::size_t kReadBytes = 64u * 1024;
  buffer_.erase(0, begin_);
  seen_ -= std::min(seen_, begin_);
  begin_ = 0;
  const std::size_t end = buffer_.size();
  buffer_.resize(end + kReadBytes);
  ssize_t size = 0;
  do {
    size = ::read(fd, buffer_.data() + end, kReadBytes);
  } while (size < 0 && errno == EINTR);
  buffer_.resize(end + static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  if (size > 0) return PoolWire::Fill::some;
  if (size < 0 && errno == EAGAIN) return PoolWire::Fill::none;
  return size < 0 && errno == ECONNRESET ? PoolWire::Fill::unread : PoolWire::Fill::end;
}

Result<std::optional<std::string_view>> KeptReader::next() {
  return protocol_ == KeptProtocol::json ? next_line() : next_frame();
}

Result<std::optional<std::string_view>> KeptReader::next_line() {
  begin_ = std::min(buffer_.find_first_not_of("\r\n", begin_), buffer_.size());
  const std::size_t end = buffer_.find('\n', std::max(seen_, begin_));
  if (end == std::string::npos) {
    seen_ = buffer_.size();
    if (buffer_.size() - begin_ > kMessageBytesMax)
      return fail(ErrorCode::malformed, "", "a line of stdout has more than 8 MiB");
    return std::nullopt;
  }
  std::string_view line(buffer_.data() + begin_, end - begin_);
  begin_ = seen_ = end + 1;
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

Result<std::optional<std::string_view>> KeptReader::next_frame() {
  if (buffer_.size() - begin_ < kFrameLengthBytes) return std::nullopt;
  std::size_t length = 0;
  for (std::size_t i = 0; i < kFrameLengthBytes; ++i)
    length = length << 8 | static_cast<unsigned char>(buffer_[begin_ + i]);
  if (length > kMessageBytesMax)
    return fail(ErrorCode::malformed, "", "a frame of stdout has more than 8 MiB");
  if (buffer_.size() - begin_ - kFrameLengthBytes < length) return std::nullopt;
  const std::string_view frame(buffer_.data() + begin_ + kFrameLengthBytes, length);
  begin_ += kFrameLengthBytes + length;
  return frame;
}

}  // namespace sluice
