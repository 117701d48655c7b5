// The command against what accepts connections and says nothing.
#include <arpa/inet.h>
#include <fmt/core.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/cli.h"

namespace sluice::cli::producer_cli_silence_test {
namespace {

using test::Ended;
using test::sluice;
using testing::HasSubstr;

// As of a broker that is stopped: its kernel accepts, and nobody says a word.
// Alone in its file, that others run beside its long waits.
TEST(CliSilence, what_accepts_and_says_nothing_is_124_and_not_called_absent) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof here;
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&here), size), 0);
  ASSERT_EQ(::listen(listener, 16), 0);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&here), &size), 0);
  const std::string address = fmt::format("tcp://127.0.0.1:{}", ntohs(here.sin_port));
  for (const auto& command : {std::vector<std::string>{"ping", "--broker", address},
                              std::vector<std::string>{"events", "--events", address}}) {
    std::vector<std::string> arguments = command;
    for (const char* timeout : {"300ms", "4s"}) {  // before the handshake is given up, and after
      arguments.resize(command.size());
      arguments.insert(arguments.end(), {"--timeout", timeout});
      const Ended ended = sluice(arguments);
      EXPECT_EQ(ended.code, kExitTimeout) << ended.err;
      EXPECT_THAT(ended.err, HasSubstr(address + " accepts the connection and says nothing"));
    }
  }
  ::close(listener);
}

}  // namespace
}  // namespace sluice::cli::producer_cli_silence_test
