// A file descriptor by which another thread wakes the loop.
#pragma once

namespace sluice {

class WakeFd {
 public:
  WakeFd();  // throws std::system_error
  ~WakeFd();
  WakeFd(const WakeFd&) = delete;
  WakeFd& operator=(const WakeFd&) = delete;

  [[nodiscard]] int fd() const { return fd_; }

  void set();    // from any thread
  void clear();  // from the loop

 private:
  int fd_;
};

}  // namespace sluice
