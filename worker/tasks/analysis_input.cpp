#include <chrono>
#include <cstdio>

#include "worker/tasks/analysis.h"

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

constexpr std::string_view kLettersAndDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

bool is_ticker(std::string_view text) {
  return !text.empty() && text.size() <= 12 &&
         kLettersAndDigits.find(text.front()) != std::string_view::npos &&
         text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == std::string_view::npos;
}

bool is_date(const std::string& text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
  for (const std::size_t i : {0, 1, 2, 3, 5, 6, 8, 9})
    if (text[i] < '0' || text[i] > '9') return false;
  const std::chrono::year_month_day date{
      std::chrono::year(std::stoi(text.substr(0, 4))),
      std::chrono::month(static_cast<unsigned>(std::stoi(text.substr(5, 2)))),
      std::chrono::day(static_cast<unsigned>(std::stoi(text.substr(8, 2))))};
  return date.ok();
}

}  // namespace

Result<AnalysisInput> parse_analysis_input(const nlohmann::json& payload) {
  if (!payload.is_object())
    return fail(ErrorCode::bad_field, "payload", "must be a map with ticker and trade_date");
  AnalysisInput input;
  const auto ticker = payload.find("ticker");
  if (ticker != payload.end() && ticker->is_string()) input.ticker = ticker->get<std::string>();
  if (!is_ticker(input.ticker))
    return fail(ErrorCode::bad_field, "ticker", "must be [A-Z0-9.-]{1,12}, such as BRK.B");
  const auto date = payload.find("trade_date");
  if (date != payload.end() && date->is_string()) input.trade_date = date->get<std::string>();
  if (!is_date(input.trade_date))
    return fail(ErrorCode::bad_field, "trade_date", "must be a date such as 2024-01-15");
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
