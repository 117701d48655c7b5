#include "worker/tasks/http_answer.h"

#include <algorithm>
#include <string>
#include <string_view>

#include <curl/curl.h>

#include "worker/tasks/ascii.h"

namespace sluice {

namespace {

constexpr std::size_t kHeaderBytesMax = 64u << 10;
constexpr std::size_t kErrorBodyBytesMax = 16u << 10;    // kept of an answer that is no success
constexpr std::size_t kRedirectBodyBytesMax = 1u << 20;  // may come, and is thrown away

int status_of(CURL* easy) {
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  return static_cast<int>(status);
}

struct BodyBounds {
  std::size_t kept_bytes_max = 0;
  std::size_t body_bytes_max = 0;  // beyond it the transfer is given up
};

BodyBounds bounds_of(const HttpRequest& request, int status) {
  const std::size_t whole = request.response_bytes_max;
  if (status < 300 || is_expected(status, request.expect)) return {whole, whole};
  const std::size_t kept = std::min(whole, kErrorBodyBytesMax);
  if (status >= 400) return {kept, kept};
  return {kept, kRedirectBodyBytesMax};  // libcurl tells where to of a whole answer only
}

// One that can only be a length, and the same as was said before. Who took any other might take a
// part of the body for the whole, or another's (RFC 9112, 6.3).
bool is_length(const HttpCall& call, std::string_view value) {
  constexpr std::size_t kDigitsMax = 18;
  const std::string earlier = call.reply.header("content-length");
  return !value.empty() && value.size() <= kDigitsMax &&
         value.find_first_not_of("0123456789") == std::string_view::npos &&
         (earlier.empty() || earlier == value);
}

struct Failure {
  const char* code;
  bool retryable;
};

// libcurl says the same of a line of the head that is longer than it holds.
bool has_endless_header(const HttpCall& call, CURLcode code) {
  long request_bytes = 0;
  curl_easy_getinfo(call.easy.get(), CURLINFO_REQUEST_SIZE, &request_bytes);
  return code == CURLE_OUT_OF_MEMORY && request_bytes > 0;
}

// Nothing was wrong with the connection: what came over it was (chunks without a size).
bool is_malformed(const HttpCall& call, CURLcode code) {
  long error = 0;
  curl_easy_getinfo(call.easy.get(), CURLINFO_OS_ERRNO, &error);
  return code == CURLE_RECV_ERROR && error == 0;
}

Failure failure_of(const HttpCall& call, CURLcode code) {
  if (is_malformed(call, code)) return {"bad_response", true};
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return {"dns_failed", true};
    case CURLE_COULDNT_CONNECT:
      return {"connect_failed", true};
    case CURLE_OPERATION_TIMEDOUT:
      return {"timeout", true};
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return {"tls_failed", true};
    case CURLE_PARTIAL_FILE:
      return {"response_incomplete", true};
    case CURLE_GOT_NOTHING:
      return {"no_response", true};
    case CURLE_URL_MALFORMAT:
    case CURLE_LOGIN_DENIED:
      return {"bad_url", false};
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
      return {"connection_lost", true};
    default:
      return {"bad_response", true};
  }
}

// It has a body, and its head does not say how much.
bool ends_with_connection(const HttpCall& call) {
  const int status = call.reply.status;
  return status != 204 && status != 304 && call.request.method != "HEAD" &&
         call.reply.header("content-length").empty() &&
         call.reply.header("transfer-encoding").empty();
}

}  // namespace

std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* user) {
  HttpCall& call = *static_cast<HttpCall*>(user);
  call.header_bytes += size;
  if (call.header_bytes > kHeaderBytesMax) {
    call.is_too_large = true;
    return 0;
  }
  std::string_view line(bytes, size);
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n' || line.back() == ' '))
    line.remove_suffix(1);
  if (line.starts_with("HTTP/")) call.reply.headers.clear();  // a 100 came before
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || line.starts_with("HTTP/")) return size;
  std::string_view value = line.substr(colon + 1);
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  const std::string_view name = line.substr(0, colon);
  if (equals_ignoring_case(name, "content-length") && !is_length(call, value)) {
    call.has_bad_length = true;
    return 0;
  }
  call.reply.headers.push_back({std::string(name), std::string(value)});
  return size;
}

std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* user) {
  HttpCall& call = *static_cast<HttpCall*>(user);
  const auto [kept_bytes_max, body_bytes_max] = bounds_of(call.request, status_of(call.easy.get()));
  const std::size_t room = kept_bytes_max - std::min(kept_bytes_max, call.reply.body.size());
  call.reply.body.append(bytes, std::min(size, room));
  call.body_bytes += size;
  if (call.body_bytes <= body_bytes_max) return size;
  call.is_too_large = true;
  return 0;
}

void judge(HttpCall& call, int curl_code) {
  const auto code = static_cast<CURLcode>(curl_code);
  HttpReply& reply = call.reply;
  reply.status = status_of(call.easy.get());
  reply.url = call.request.target.url;
  if (code == CURLE_OK) {
    if (!ends_with_connection(call) || call.has_said_its_end) return;
    reply.error_code = "response_incomplete";
    reply.error = "the connection was cut before the end of the answer";
    reply.retryable = true;
    return;
  }
  if (call.is_refused) {
    reply.error_code = "target_refused";
    reply.error = call.request.target.host +
                  " is not a public address; the task's setting `allow` opens others";
  } else if (call.is_too_large || has_endless_header(call, code)) {
    reply.error_code = "response_too_large";
    const std::size_t most = call.body_bytes > 0
                                 ? bounds_of(call.request, reply.status).body_bytes_max
                                 : kHeaderBytesMax;
    reply.error = "the answer is larger than " + std::to_string(most) + " bytes";
  } else if (call.has_bad_length) {
    reply.error_code = "bad_response";
    reply.error = "the answer's Content-Length is no length, or there are several";
    reply.retryable = true;
  } else {
    const Failure failure = failure_of(call, code);
    reply.error_code = failure.code;
    reply.retryable = failure.retryable;
    reply.error = call.error_text[0] != '\0' ? call.error_text.data() : curl_easy_strerror(code);
  }
}

bool is_expected(int status, const std::vector<std::string>& expect) {
  const std::string text = std::to_string(status);
  return std::any_of(expect.begin(), expect.end(), [&](const std::string& entry) {
    return entry == text || (entry.ends_with("xx") && entry.front() == text.front());
  });
}

}  // namespace sluice
