// Which store a broker uses, by its options: a Redis of somebody else's (--redis), one of its own
// (the default), or memory only (--redis memory:, for trying things out; nothing survives the
// process).
#pragma once

#include <memory>
#include <string>

#include "broker/options.h"
#include "broker/store/store.h"
#include "common/result.h"

namespace sluice {

class StoreChoice {
 public:
  StoreChoice() = default;
  StoreChoice(const StoreChoice&) = delete;
  StoreChoice& operator=(const StoreChoice&) = delete;
  virtual ~StoreChoice() = default;

  [[nodiscard]] virtual Store& store() = 0;
  // After the loop: ends what was started for this broker, unless another than `owner` (empty:
  // nobody) has the state by now. Whether that went in order.
  virtual bool stop(const std::string& owner) = 0;
  // Instead, when it is known that another broker has the state: nothing is ended.
  virtual void leave() = 0;
};

// Starts or adopts what is needed; a signal ends the waiting. Errors: bad_field (an option), denied
// (the data directory belongs to another broker), internal (the private redis-server does not
// start), store_unavailable (a signal came), each with what to do.
[[nodiscard]] Result<std::unique_ptr<StoreChoice>> choose_store(const BrokerOptions& options,
                                                                int signals);

// --redis-password, or the first line of --redis-password-file. Errors: bad_field.
[[nodiscard]] Result<std::string> read_password(const BrokerOptions& options);

// Takes over and reads what is there. A Redis that is away is waited for, and a large state takes
// its time, both with a line in the log every few seconds; a signal ends either
// (store_unavailable). Other errors are final.
[[nodiscard]] Result<Opened> open_store(StoreChoice& choice, const std::string& owner, int signals);

[[nodiscard]] int exit_code_of(const Error& error);

}  // namespace sluice
