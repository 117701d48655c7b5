#include "worker/runtime/wake.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace sluice {

WakeFd::WakeFd() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

WakeFd::~WakeFd() {
  ::close(fd_);
}

void WakeFd::set() {
  (void)::eventfd_write(fd_, 1);
}

void WakeFd::clear() {
  eventfd_t count = 0;
  (void)::eventfd_read(fd_, &count);
}

}  // namespace sluice
