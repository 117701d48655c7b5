#include "common/protocol/wire_in.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/utf8.h"

namespace sluice::wire {

std::string In::path() const {
  std::string text;
  for (std::size_t i = 0; i < depth_; ++i) {
    if (path_[i].index >= 0) {
      text += '[' + std::to_string(path_[i].index) + ']';
    } else {
      if (!text.empty()) text += '.';
      // A key that nobody checked: keep it short and printable.
      for (const char c : path_[i].key.substr(0, 64))
        text += c > ' ' && c <= '~' ? c : '?';
    }
  }
  return text;
}

bool In::fail(ErrorCode code, std::string_view detail) {
  if (!failed_) error_ = {code, path(), std::string(detail)};
  failed_ = true;
  return false;
}

bool In::missing(std::string_view key) {
  return within({key}, [&] { return fail(ErrorCode::malformed, "is missing"); });
}

bool In::over(std::string_view what, std::size_t max) {
  return fail(ErrorCode::too_large,
              "has more than " + std::to_string(max) + " " + std::string(what));
}

Error In::recover(const Mark& mark) {
  Error error = std::move(error_);
  failed_ = false;
  reader_ = mark.reader;
  depth_ = mark.depth;
  reader_.skip(kDepthMax);
  return error;
}

bool In::skip() {
  return reader_.skip(kDepthMax) || fail(ErrorCode::malformed, "is cut off or nested too deep");
}

std::optional<std::string_view> In::peek_text() const {
  msgpack::Reader ahead = reader_;
  return ahead.str();
}

bool In::text(std::string& out, std::size_t bytes_max, std::size_t bytes_min) {
  const auto value = reader_.str();
  if (!value) return bad("must be a string");
  if (value->size() > bytes_max) return over("bytes", bytes_max);
  if (value->size() < bytes_min) return bad("must not be empty");
  if (!is_utf8(*value)) return bad("must be UTF-8");
  out.assign(*value);
  return true;
}

bool In::bytes(std::string& out, std::size_t bytes_max) {
  const auto value = reader_.bin();
  if (!value) return bad("must be binary (msgpack bin)");
  if (value->size() > bytes_max) return over("bytes", bytes_max);
  out.assign(*value);
  return true;
}

bool In::name(std::string& out) {
  const auto value = reader_.str();
  if (!value || !is_name(*value)) return bad("must be a string of 1 to 64 of A-Z a-z 0-9 _ . -");
  out.assign(*value);
  return true;
}

bool In::node_id(std::string& out) {
  const auto value = reader_.str();
  if (!value || !is_node_id(*value)) return bad("must be a node id, name@life");
  out.assign(*value);
  return true;
}

bool In::job_id(JobId& out) {
  const auto value = reader_.str();
  if (!value || !is_job_id(*value))
    return bad("must be a string of 1 to 64 of A-Z a-z 0-9 _ . : -");
  out = JobId(*value);
  return true;
}

bool In::boolean(bool& out) {
  const auto value = reader_.boolean();
  if (!value) return bad("must be true or false");
  out = *value;
  return true;
}

bool In::real(double& out, double min, double max) {
  const auto value = reader_.real();
  if (!value || !(*value >= min && *value <= max)) {  // so written, NaN is refused
    const auto text = [](double number) {
      std::string digits = std::to_string(number);
      digits.erase(digits.find_last_not_of('0') + 1);
      if (digits.back() == '.') digits.pop_back();
      return digits;
    };
    return bad("must be a number from " + text(min) + " to " + text(max));
  }
  out = *value;
  return true;
}

bool In::headers(std::vector<Header>& out, std::size_t count_max) {
  const auto count = reader_.map();
  if (!count) return bad("must be a map of strings");
  if (*count > count_max) return over("entries", count_max);
  out.reserve(*count);
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto key = reader_.str();
    if (!key || key->size() > kHeaderNameBytesMax || !is_name(*key))
      return bad("has a name that is not 1 to 64 of A-Z a-z 0-9 _ . -");
    Header header{.name = std::string(*key), .value = {}};
    const auto is_same = [&](const Header& other) {
      return other.name == header.name;
    };
    const bool is_repeated = std::any_of(out.begin(), out.end(), is_same);
    if (!within({*key}, [&] {
          return is_repeated ? repeated() : text(header.value, kHeaderValueBytesMax);
        }))
      return false;
    out.push_back(std::move(header));
  }
  return true;
}

bool In::job_ids(std::vector<JobId>& out, std::size_t min, std::size_t max) {
  return list(out, min, max, [&](JobId& id) { return job_id(id); });
}

bool In::seen(Seen& out) {
  return fields([&](std::string_view key) {
    if (key == "epoch") return number(out.epoch);
    if (key == "n") return number(out.n);
    return skip();
  });
}

// ---------------------------------------------------------------- the frame

namespace {

Error malformed(std::string where, std::string detail) {
  return {ErrorCode::malformed, std::move(where), std::move(detail)};
}

std::optional<Error> check_protocol(msgpack::Reader& reader) {
  const auto version = reader.unsigned_integer();
  if (!version) return Error{ErrorCode::bad_field, "protocol", "must be a positive integer"};
  if (*version == kProtocolVersion) return std::nullopt;
  const std::string side =
      *version < kProtocolVersion ? "upgrade the sender" : "upgrade the receiver";
  return Error{ErrorCode::unsupported_version,
               "protocol",
               "the sender of this message speaks protocol " + std::to_string(*version) +
                   ", its receiver protocol " + std::to_string(kProtocolVersion) + ": " + side};
}

bool is_req(std::string_view bytes) {
  msgpack::Reader reader(bytes);
  if (reader.peek() == msgpack::Type::integer) return true;
  const auto text = reader.str();
  return text && text->size() <= 64 && is_utf8(*text);
}

}  // namespace

std::optional<Error> open_frame(std::string_view frame, Envelope& envelope) {
  if (frame.size() > kMessageBytesMax)
    return Error{ErrorCode::too_large, "", "a message has more than 8 MiB"};
  if (frame.empty())
    return malformed("", "a message is one frame, before which an empty one may stand");
  msgpack::Reader reader(frame);
  const auto count = reader.map();
  if (!count) return malformed("", "the frame is not one msgpack map");
  std::optional<Error> error;
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto key = reader.str();
    if (!key) return malformed("", "the map is cut off or has a key that is no string");
    if (*key == "op") {
      const auto op = reader.str();
      if (!op) return Error{ErrorCode::bad_field, "op", "must be a string"};
      envelope.op = *op;
      continue;
    }
    if (*key == "protocol" && reader.peek() == msgpack::Type::integer) {
      error = check_protocol(reader);
      if (!error || error->code == ErrorCode::unsupported_version) continue;
      return error;
    }
    const auto value = reader.skip(In::kDepthMax - 1);
    if (!value)
      return malformed(is_utf8(*key) ? std::string(utf8_head(*key, 64)) : "",
                       "the value is cut off, nested deeper than 8, or of an extension type");
    if (*key == "req") {
      if (*value == "\xc0") continue;  // nil, as in the answer to what had no readable one: none
      if (!is_req(*value))
        return Error{ErrorCode::bad_field, "req", "must be an integer or at most 64 bytes of text"};
      envelope.req = *value;
    } else if (*key == "protocol") {
      return Error{ErrorCode::bad_field, "protocol", "must be an integer"};
    }
  }
  if (!reader.at_end()) return malformed("", "bytes follow the map");
  if (error) return error;
  if (envelope.op.empty()) return malformed("op", "is missing");
  return std::nullopt;
}

}  // namespace sluice::wire
