#include "broker/store/name_lookup.h"

#include <netdb.h>
#include <sys/socket.h>

#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace sluice {

std::string resolve_host(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return {};
  char text[NI_MAXHOST] = "";
  getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST);
  freeaddrinfo(found);
  return text;
}

struct NameLookup::Shared {
  Shared(std::string name, Resolver resolver)
      : host(std::move(name)), resolve(std::move(resolver)), address(host) {}

  void look_up() {
    std::string found = resolve(host);
    const std::scoped_lock lock(mutex);
    if (!found.empty()) address = std::move(found);
    is_under_way = false;
  }

  const std::string host;
  const Resolver resolve;
  std::mutex mutex;  // guards what follows
  std::string address;
  bool is_under_way = false;
};

NameLookup::NameLookup(std::string host, Resolver resolver)
    : shared_(std::make_shared<Shared>(std::move(host), std::move(resolver))) {}

void NameLookup::look_up() {
  shared_->look_up();
}

void NameLookup::begin() {
  {
    const std::scoped_lock lock(shared_->mutex);
    if (std::exchange(shared_->is_under_way, true)) return;
  }
  try {
    std::thread([shared = shared_] { shared->look_up(); }).detach();
  } catch (const std::system_error&) {
    const std::scoped_lock lock(shared_->mutex);
    shared_->is_under_way =
        false;  // no thread to be had: the old address, and once more at the next loss
  }
}

std::string NameLookup::address() const {
  const std::scoped_lock lock(shared_->mutex);
  return shared_->address;
}

}  // namespace sluice
