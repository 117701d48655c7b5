#include <gtest/gtest.h>

#include "common/limits.h"

namespace sluice::common_limits_test {
namespace {

TEST(Limits, a_message_holds_the_largest_payload_with_room_for_its_envelope) {
  EXPECT_GE(sluice::kMessageBytesMax, 4 * sluice::kPayloadBytesMax);
}

}  // namespace
}  // namespace sluice::common_limits_test
