#include <algorithm>

#include "worker/runtime/payload.h"
#include "worker/tasks/ascii.h"
#include "worker/tasks/http.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

using Json = nlohmann::json;

tl::unexpected<Error> bad(std::string field, std::string detail) {
  return fail(ErrorCode::bad_field, std::move(field), std::move(detail));
}

bool is_in(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_header_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 &&
         name.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~") ==
             std::string_view::npos;
}

bool is_header_value(std::string_view value) {
  return std::none_of(value.begin(), value.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
  });
}

void put_header(std::vector<Header>& headers, std::string name, std::string value) {
  for (Header& header : headers)
    if (equals_ignoring_case(header.name, name)) {
      header.value = std::move(value);
      return;
    }
  headers.push_back({std::move(name), std::move(value)});
}

Result<Target> target_of(const HttpTask& task, const Json& payload) {
  std::string url;
  if (const auto it = payload.find("url"); it != payload.end()) {
    if (!it->is_string()) return bad("url", "must be a string");
    url = it->get<std::string>();
  }
  if (url.find_first_of(std::string_view("\r\n\t \0", 5)) != std::string::npos)
    return bad("url", "must not contain spaces or control characters");
  const bool is_absolute = url.find("://") < url.find_first_of("/?#");
  if (task.base_url.empty() || lower(url).starts_with("http:") ||
      lower(url).starts_with("https:") || is_absolute)
    return parse_target(url);
  const bool ends = task.base_url.ends_with('/');
  std::string base = task.base_url.substr(0, task.base_url.size() - (ends ? 1 : 0));
  if (url.empty()) return parse_target(task.base_url);
  return parse_target(base + (url.starts_with('/') || url.starts_with('?') ? "" : "/") + url);
}

Result<void> add_job_headers(const HttpTask& task,
                             const Json& payload,
                             bool is_home,
                             HttpPlan& plan) {
  const auto it = payload.find("headers");
  if (it == payload.end()) return {};
  if (!it->is_object() || it->size() > 64) return bad("headers", "must be a map of at most 64");
  for (const auto& [name, value] : it->items()) {
    if (!is_header_name(name)) return bad("headers", "a header's name has a wrong character");
    if (is_in(lower(name),
              {"host",
               "content-length",
               "transfer-encoding",
               "connection",
               "expect",
               "te",
               "upgrade",
               "proxy-authorization",
               "idempotency-key"}))
      return bad("headers." + name, "this header is not the job's to set");
    if (!value.is_string() || value.get_ref<const std::string&>().size() > 8192)
      return bad("headers." + name, "must be a string of at most 8192 bytes");
    std::string text = value.get<std::string>();
    for (const std::string& secret : secret_names(text)) {
      const auto& allowed = task.job_secrets;
      if (std::find(allowed.begin(), allowed.end(), secret) == allowed.end())
        return fail(ErrorCode::denied,
                    "headers." + name,
                    "the task's setting `secrets` does not let jobs use secret " + secret);
      if (!is_home)
        return fail(ErrorCode::denied,
                    "headers." + name,
                    "secrets go to the origin of the task's base_url only");
    }
    auto filled = task.secrets.fill_in(text, plan.used_secrets);
    if (!filled) return tl::unexpected(filled.error());
    if (!is_header_value(*filled)) return bad("headers." + name, "has a control character");
    put_header(plan.request.headers, name, std::move(*filled));
  }
  return {};
}

Result<void> add_body(const Json& payload, HttpRequest& request) {
  const auto it = payload.find("body");
  if (it == payload.end()) return {};
  if (is_in(request.method, {"GET", "HEAD"}))
    return bad("body", "a " + request.method + " request has none");
  std::string type;
  if (it->is_string()) {
    request.body = it->get<std::string>();
    type = "text/plain; charset=utf-8";
  } else if (it->is_binary()) {
    const auto& bytes = it->get_binary();
    request.body = std::string(bytes.begin(), bytes.end());
    type = "application/octet-stream";
  } else {
    request.body = it->dump(-1, ' ', false, Json::error_handler_t::replace);
    type = "application/json";
  }
  const bool has_type =
      std::any_of(request.headers.begin(), request.headers.end(), [](const Header& header) {
        return lower(header.name) == "content-type";
      });
  if (!has_type) request.headers.push_back({"Content-Type", type});
  return {};
}

Result<void> take_expectations(const Json& payload, HttpPlan& plan) {
  if (const auto it = payload.find("expect"); it != payload.end()) {
    const Json list = it->is_array() ? *it : Json::array({*it});
    plan.expect.clear();
    for (const Json& entry : list) {
      const auto text = scalar_text(entry);
      if (!text || !is_status_pattern(*text))
        return bad("expect", "a status such as 404, or \"2xx\"");
      plan.expect.push_back(*text);
    }
    if (plan.expect.empty()) return bad("expect", "must name a status");
  }
  if (const auto it = payload.find("result"); it != payload.end()) {
    if (*it != "body" && *it != "response") return bad("result", "must be body or response");
    plan.wants_response = *it == "response";
  }
  if (const auto it = payload.find("redirects"); it != payload.end()) {
    if (!it->is_number_integer() || it->get<std::int64_t>() < 0 || it->get<std::int64_t>() > 3)
      return bad("redirects", "must be an integer from 0 to 3");
    plan.request.redirects_max = it->get<unsigned>();
  }
  return {};
}

Result<void> take_request(const HttpTask& task, const Json& payload, HttpPlan& plan) {
  HttpRequest& request = plan.request;
  for (const auto& [key, value] : payload.items())
    if (!is_in(key, {"method", "url", "headers", "body", "expect", "result", "redirects"}))
      return bad(key, "this field is not known");
  if (const auto it = payload.find("method"); it != payload.end()) {
    if (!it->is_string()) return bad("method", "must be a string");
    request.method = it->get<std::string>();
  } else if (payload.contains("body")) {
    request.method = "POST";
  }
  if (!is_in(request.method, {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}))
    return bad("method", "must be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS");
  auto target = target_of(task, payload);
  if (!target) return tl::unexpected(target.error());
  request.target = std::move(*target);
  return {};
}

}  // namespace

bool is_status_pattern(std::string_view text) {
  const auto is_digit = [](char c) {
    return c >= '0' && c <= '9';
  };
  return text.size() == 3 && text[0] >= '1' && text[0] <= '5' &&
         (text.substr(1) == "xx" || (is_digit(text[1]) && is_digit(text[2])));
}

Result<HttpPlan> plan_http_call(const HttpTask& task, const RunJob& job, const Json& payload) {
  if (!payload.is_object()) return bad("payload", "must be a map with the key url");
  HttpPlan plan;
  plan.expect = task.expect;
  plan.wants_response = task.wants_response;
  HttpRequest& request = plan.request;
  request.rules = task.rules;
  request.response_bytes_max = task.response_bytes_max;
  request.connect_timeout_ms = task.connect_timeout_ms;
  request.timeout_ms = task.timeout_ms;
  request.stall_ms = task.stall_ms;
  request.redirects_max = task.redirects_max;
  request.ca_file = task.ca_file;
  request.group = job.task;
  request.calls_per_host = task.calls_per_host;
  if (auto taken = take_request(task, payload, plan); !taken) return tl::unexpected(taken.error());

  bool is_home = task.base_url.empty();
  if (!is_home) {
    const auto base = parse_target(task.base_url);
    is_home = base && base->origin == request.target.origin;
  }
  if (is_home)
    for (const Header& header : task.headers) {
      auto filled = task.secrets.fill_in(header.value, plan.used_secrets);
      if (!filled) return tl::unexpected(filled.error());
      if (!is_header_value(*filled)) return bad(header.name, "has a control character");
      put_header(request.headers, header.name, std::move(*filled));
    }
  if (auto added = add_job_headers(task, payload, is_home, plan); !added)
    return tl::unexpected(added.error());
  put_header(request.headers, "Idempotency-Key", job.id.str());
  if (auto added = add_body(payload, request); !added) return tl::unexpected(added.error());
  if (auto taken = take_expectations(payload, plan); !taken) return tl::unexpected(taken.error());
  return plan;
}

}  // namespace sluice
