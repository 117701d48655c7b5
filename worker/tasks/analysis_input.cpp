#include <cstdio>

#include "common/analysis.h"
#include "worker/tasks/analysis.h"

#include <nlohmann/json.hpp>

namespace sluice {

Result<AnalysisInput> parse_analysis_input(const nlohmann::json& payload) {
  if (!payload.is_object())
    return fail(ErrorCode::bad_field, "payload", "must be a map with ticker and trade_date");
  AnalysisInput input;
  const auto ticker = payload.find("ticker");
  if (ticker != payload.end() && ticker->is_string()) input.ticker = ticker->get<std::string>();
  const auto date = payload.find("trade_date");
  if (date != payload.end() && date->is_string()) input.trade_date = date->get<std::string>();
  if (auto checked = check_analysis(input.ticker, input.trade_date); !checked)
    return tl::unexpected(std::move(checked.error()));
  return input;
}

std::string analysis_thread_id(const JobId& id, std::uint32_t life) {
  const IdHash hash = hash_id("analysis/" + std::to_string(life) + "/" + id.str());
  // A UUID of version 8 (made by the application), variant 10.
  const std::uint64_t high = (hash.high & ~0xf000ULL) | 0x8000ULL;
  const std::uint64_t low = (hash.low & ~(3ULL << 62)) | (2ULL << 62);
  char text[37];
  std::snprintf(text,
                sizeof text,
                "%08x-%04x-%04x-%04x-%012llx",
                static_cast<unsigned>(high >> 32),
                static_cast<unsigned>((high >> 16) & 0xffff),
                static_cast<unsigned>(high & 0xffff),
                static_cast<unsigned>(low >> 48),
                static_cast<unsigned long long>(low & 0xffffffffffffULL));
  return text;
}

}  // namespace sluice
