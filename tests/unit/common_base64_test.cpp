#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/base64.h"

namespace sluice::common_base64_test {
namespace {

TEST(Base64, is_that_of_rfc_4648_with_padding) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte)
    bytes += static_cast<char>(byte);
  EXPECT_EQ(bytes_of_base64(base64_of(bytes)), bytes);
  for (const auto& [plain, text] : {std::pair<std::string, std::string>{"", ""},
                                    {"f", "Zg=="},
                                    {"fo", "Zm8="},
                                    {"foo", "Zm9v"},
                                    {"foob", "Zm9vYg=="},
                                    {"\xfb\xff", "+/8="}}) {
    EXPECT_EQ(base64_of(plain), text);
    EXPECT_EQ(bytes_of_base64(text), plain);
  }
  for (const char* text : {"Zg", "Zg=", "Z", "====", "Zg==Zg==", "Zm9v\n", " Zm9v", "Zh==", "-_8="})
    EXPECT_EQ(bytes_of_base64(text), std::nullopt) << text;
}

}  // namespace
}  // namespace sluice::common_base64_test
