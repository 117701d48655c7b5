// The address behind a host's name. A Redis that starts again, in a container or after a failover,
// may have another one, so its name is looked up again for every new connection; by a thread,
// because a resolver may take seconds and the loop must not wait for it.
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace sluice {

// The address as a number; empty when the name is not known now. May block.
using Resolver = std::function<std::string(const std::string& host)>;

[[nodiscard]] std::string resolve_host(const std::string& host);

class NameLookup {
 public:
  explicit NameLookup(std::string host, Resolver resolver = resolve_host);

  void look_up();  // waits for the answer
  void begin();    // does not wait; nothing when one is under way already

  // The newest that is known; the name itself while none is.
  [[nodiscard]] std::string address() const;

 private:
  struct Shared;  // the thread outlives this object when the resolver is slow, and keeps it
  std::shared_ptr<Shared> shared_;
};

}  // namespace sluice
