#include "common/analysis.h"

#include <charconv>
#include <string>

namespace sluice {

namespace {

constexpr std::string_view kLettersAndDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
constexpr std::size_t kTickerBytesMax = 12;

bool is_ticker(std::string_view text) {
  return !text.empty() && text.size() <= kTickerBytesMax &&
         kLettersAndDigits.find(text.front()) != std::string_view::npos &&
         text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == std::string_view::npos;
}

bool is_date(std::string_view text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
  for (const std::size_t i : {0, 1, 2, 3, 5, 6, 8, 9})
    if (text[i] < '0' || text[i] > '9') return false;
  const auto number = [text](std::size_t at, std::size_t size) {
    unsigned value = 0;
    std::from_chars(text.data() + at, text.data() + at + size, value);
    return value;
  };
  const unsigned year = number(0, 4);
  const unsigned month = number(5, 2);
  const unsigned day = number(8, 2);
  constexpr unsigned kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (year < 1 || month < 1 || month > 12) return false;
  const bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return day >= 1 && day <= kDays[month - 1] + (month == 2 && is_leap ? 1U : 0U);
}

}  // namespace

Result<void> check_analysis(std::string_view ticker, std::string_view trade_date) {
  if (!is_ticker(ticker))
    return fail(ErrorCode::bad_field,
                "ticker",
                "must be [A-Z0-9.-]{1,12}, such as BRK.B, not '" + std::string(ticker) + "'");
  if (!is_date(trade_date))
    return fail(ErrorCode::bad_field,
                "trade_date",
                "must be a date such as 2024-01-15, not '" + std::string(trade_date) + "'");
  return {};
}

}  // namespace sluice
