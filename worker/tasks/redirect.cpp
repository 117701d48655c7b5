#include <algorithm>

#include "worker/tasks/ascii.h"
#include "worker/tasks/curl_loop.h"

namespace sluice {

namespace {

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(), [&](std::string_view one) {
    return equals_ignoring_case(name, one);
  });
}

}  // namespace

std::string HttpReply::header(std::string_view name) const {
  const auto it = std::find_if(headers.rbegin(), headers.rend(), [&](const Header& header) {
    return equals_ignoring_case(header.name, name);
  });
  return it == headers.rend() ? std::string() : it->value;
}

HttpRequest redirected(HttpRequest request, int status, Target target) {
  // A credential may have any name (X-Api-Key), so only headers known to carry none are kept.
  if (target.origin != request.target.origin)
    std::erase_if(request.headers, [](const Header& header) {
      return !is_one_of(
          header.name,
          {"accept", "accept-language", "content-type", "idempotency-key", "user-agent"});
    });
  const bool becomes_get = (status == 303 && request.method != "HEAD") ||
                           ((status == 301 || status == 302) && request.method == "POST");
  if (becomes_get) {
    request.method = "GET";
    request.body.reset();
    std::erase_if(request.headers,
                  [](const Header& header) { return is_one_of(header.name, {"content-type"}); });
  }
  request.target = std::move(target);
  if (request.redirects_max > 0) --request.redirects_max;
  return request;
}

}  // namespace sluice
