#include <gtest/gtest.h>

#include "common/address.h"

namespace sluice::common_address_test {
namespace {

using namespace sluice;

TEST(Address, has_a_host_and_a_port_that_there_is) {
  for (const char* good : {"tcp://127.0.0.1:7711",
                           "tcp://[::1]:1",
                           "tcp://broker.example.com:65535",
                           "ipc:///run/sluice.sock"}) {
    EXPECT_TRUE(is_address(good, AddressUse::connect)) << good;
    EXPECT_TRUE(is_address(good, AddressUse::listen)) << good;
  }
  for (const char* bad : {"",
                          "tcp://",
                          "tcp://:7711",
                          "tcp://127.0.0.1",
                          "tcp://127.0.0.1:",
                          "tcp://127.0.0.1:65536",
                          "tcp://127.0.0.1:99999",
                          "tcp://127.0.0.1:-1",
                          "tcp://127.0.0.1:77x",
                          "http://127.0.0.1:7711",
                          "127.0.0.1:7711",
                          "ipc://"}) {
    EXPECT_FALSE(is_address(bad, AddressUse::connect)) << bad;
    EXPECT_FALSE(is_address(bad, AddressUse::listen)) << bad;
  }
}

TEST(Address, of_the_loopback_is_no_name_that_begins_like_it) {
  for (const char* here : {"127.0.0.1", "127.1", "localhost", "::1", "[::1]"})
    EXPECT_TRUE(is_loopback_host(here)) << here;
  for (const char* anywhere : {"127.example.com", "10.0.0.1", "localhost.example.com", "", "::2"})
    EXPECT_FALSE(is_loopback_host(anywhere)) << anywhere;
}

TEST(Address, of_a_listener_may_leave_the_port_open) {
  for (const char* open : {"tcp://127.0.0.1:0", "tcp://127.0.0.1:*"}) {
    EXPECT_TRUE(is_address(open, AddressUse::listen)) << open;
    EXPECT_FALSE(is_address(open, AddressUse::connect)) << open;
  }
}

}  // namespace
}  // namespace sluice::common_address_test
