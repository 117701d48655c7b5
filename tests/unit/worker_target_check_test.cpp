#include <gtest/gtest.h>

#include "worker/tasks/target_check.h"

namespace sluice::worker_target_check_test {
namespace {

TargetRules rules(const std::vector<std::string>& allow) {
  auto parsed = TargetRules::parse(allow);
  EXPECT_TRUE(parsed) << parsed.error().detail;
  return parsed ? *parsed : TargetRules{};
}

TEST(TargetRules, only_public_addresses_are_open_without_a_rule) {
  const TargetRules none = rules({});
  for (const char* address : {"93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "172.32.0.1"})
    EXPECT_TRUE(none.allows("example.com", std::string(address))) << address;
  for (const char* address : {"127.0.0.1",
                              "127.255.0.9",
                              "0.0.0.0",
                              "10.1.2.3",
                              "172.16.0.1",
                              "172.31.255.255",
                              "192.168.1.1",
                              "169.254.169.254",
                              "100.64.0.1",
                              "198.18.0.1",
                              "224.0.0.1",
                              "255.255.255.255",
                              "::1",
                              "::",
                              "fe80::1",
                              "fe80::1%eth0",
                              "fc00::1",
                              "fd12::1",
                              "ff02::1",
                              "::ffff:127.0.0.1",
                              "::ffff:10.0.0.1",
                              "::7f00:1",
                              "64:ff9b::7f00:1",
                              "2002:7f00:1::"})
    EXPECT_FALSE(none.allows("example.com", std::string(address))) << address;
  EXPECT_FALSE(none.allows("example.com", std::string("no address")));
}

TEST(TargetRules, a_network_opens_what_lies_in_it_and_nothing_beside) {
  const TargetRules some = rules({"10.1.0.0/16", "192.168.7.9", "fd00::/9"});
  EXPECT_TRUE(some.allows("h", std::string("10.1.255.255")));
  EXPECT_FALSE(some.allows("h", std::string("10.2.0.0")));
  EXPECT_TRUE(some.allows("h", std::string("192.168.7.9")));
  EXPECT_FALSE(some.allows("h", std::string("192.168.7.8")));
  EXPECT_TRUE(some.allows("h", std::string("fd7f::1")));
  EXPECT_FALSE(some.allows("h", std::string("fd80::1")));
  EXPECT_TRUE(some.allows("h", std::string("::ffff:10.1.0.1")));  // the same address, said longer
}

TEST(TargetRules, prefixes_that_end_within_a_byte_are_exact) {
  const TargetRules some = rules({"10.0.0.0/13"});
  EXPECT_TRUE(some.allows("h", std::string("10.7.255.255")));
  EXPECT_FALSE(some.allows("h", std::string("10.8.0.0")));
  EXPECT_TRUE(rules({"0.0.0.0/0"}).allows("h", std::string("10.0.0.1")));
  EXPECT_FALSE(rules({"0.0.0.0/0"}).allows("h", std::string("fd00::1")));
}

TEST(TargetRules, a_host_name_opens_its_own_calls_only) {
  const TargetRules some = rules({"Inner.Example"});
  EXPECT_TRUE(some.allows("inner.example", std::string("10.0.0.1")));
  EXPECT_FALSE(some.allows("other.example", std::string("10.0.0.1")));
}

TEST(TargetRules, a_wrong_entry_is_refused_by_name) {
  for (const char* entry : {"",
                            "10.0.0.0/33",
                            "10.0.0.0/-1",
                            "10.0.0.0/",
                            "::/129",
                            "a b",
                            "host/8",
                            "user@host",
                            "10.0.0.0/8x"}) {
    const auto parsed = TargetRules::parse({entry});
    ASSERT_FALSE(parsed) << entry;
    EXPECT_NE(parsed.error().detail.find(entry), std::string::npos) << parsed.error().detail;
  }
}

TEST(Target, is_a_plain_http_url_and_has_an_origin) {
  const auto target = parse_target("HTTP://Example.com/a?b#c");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->origin, "http://example.com:80");
  EXPECT_EQ(target->host, "example.com");
  EXPECT_EQ(parse_target("https://[::1]/")->host, "::1");
  EXPECT_EQ(parse_target("https://[::1]/")->origin, "https://::1:443");
  EXPECT_EQ(shown_target("https://h/p?key=1"), "https://h/p");
  EXPECT_EQ(shown_target("https://h/p#key=1"), "https://h/p");
  for (const char* url : {"",
                          "ftp://h/",
                          "file:///etc/passwd",
                          "http://user@h/",
                          "http://u:p@h/",
                          "http:///",
                          "gopher://h",
                          "javascript:alert(1)"})
    EXPECT_FALSE(parse_target(url)) << url;
}

}  // namespace
}  // namespace sluice::worker_target_check_test
