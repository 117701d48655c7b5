#include "producer/cli/json_line.h"

#include <set>

#include <nlohmann/json.hpp>

namespace sluice::cli {

namespace {

using Json = nlohmann::ordered_json;

// What the parser calls, token by token. False stops it: the line is no object.
class MemberReader : public nlohmann::json_sax<Json> {
 public:
  std::vector<JsonMember> members;

  bool null() override { return scalar("null"); }

  bool boolean(bool value) override { return scalar(value ? "true" : "false"); }

  // Comes with a minus only: 0 was -0.
  bool number_integer(number_integer_t value) override {
    return scalar(value == 0 ? "-0" : std::to_string(value));
  }

  bool number_unsigned(number_unsigned_t value) override { return scalar(std::to_string(value)); }

  bool number_float(number_float_t, const string_t& text) override { return scalar(text); }

  bool string(string_t& text) override { return scalar(Json(text).dump()); }

  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override {
    if (depth_ == 0) return ++depth_, true;
    return open('{');
  }

  bool start_array(std::size_t) override { return open('['); }

  bool end_object() override { return close('}'); }

  bool end_array() override { return close(']'); }

  bool key(string_t& name) override {
    if (depth_ == 1) {
      members.push_back({name, "", 0});
      return true;
    }
    separate();
    members.back().text += Json(name).dump() + ':';
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool scalar(std::string_view text) {
    if (depth_ == 0) return false;
    begin_value();
    members.back().text += text;
    return true;
  }

  bool open(char bracket) {
    if (depth_ == 0) return false;
    begin_value();
    members.back().text += bracket;
    ++depth_;
    return true;
  }

  bool close(char bracket) {
    if (--depth_ > 0) members.back().text += bracket;
    return true;
  }

  void begin_value() {
    if (depth_ == 1) return;
    separate();
    ++members.back().values;
  }

  // A text that ends with one of these has nothing yet to be separated from: a string ends in ".
  void separate() {
    std::string& text = members.back().text;
    if (text.back() != '{' && text.back() != '[' && text.back() != ':') text += ',';
  }

  std::size_t depth_ = 0;  // of what is open
};

}  // namespace

Result<std::vector<JsonMember>> members_of(std::string_view line) {
  MemberReader reader;
  if (!Json::sax_parse(line, &reader))
    return fail(ErrorCode::malformed, "", "is not one JSON object");
  std::set<std::string_view> keys;
  for (const JsonMember& member : reader.members)
    if (!keys.insert(member.key).second)
      return fail(ErrorCode::bad_field, member.key, "is given twice");
  return std::move(reader.members);
}

}  // namespace sluice::cli
