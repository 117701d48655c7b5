// What an `analysis` job asks for, checked alike by who submits it and by the node that runs it.
#pragma once

#include <string_view>

#include "common/result.h"

namespace sluice {

// Errors: bad_field, `where` is `ticker` or `trade_date`.
[[nodiscard]] Result<void> check_analysis(std::string_view ticker, std::string_view trade_date);

}  // namespace sluice
