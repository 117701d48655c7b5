// Kind `http`: a job is one HTTP call. README.md beside this file says what a payload and a task's
// table may hold.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/runtime/task_table.h"
#include "worker/tasks/curl_loop.h"
#include "worker/tasks/secrets.h"

#include <nlohmann/json_fwd.hpp>

namespace sluice {

// One [task.NAME] table with `run = "http"`.
struct HttpTask {
  std::string base_url;         // what a job's url is appended to; empty = jobs name whole URLs
  std::vector<Header> headers;  // sent to the origin of base_url only; may name secrets
  std::shared_ptr<const TargetRules> rules = std::make_shared<TargetRules>();
  std::vector<std::string> job_secrets;  // which secrets jobs may name in their headers
  SecretStore secrets;
  std::vector<std::string> expect = {"2xx"};  // statuses that complete the job
  bool wants_response = false;                // result = a JSON map of the answer, not its body
  std::size_t response_bytes_max = kResultBytesMax;
  std::int64_t connect_timeout_ms = 5000;
  std::int64_t timeout_ms = 0;  // of one call; 0 = only the attempt's
  std::int64_t stall_ms = 120'000;
  unsigned redirects_max = 3;
  std::size_t calls_per_host = 0;  // of this task at once; 0 = any number
  std::string ca_file;
};

// A job's call, ready to be made.
struct HttpPlan {
  HttpRequest request;
  std::vector<UsedSecret> used_secrets;
  std::vector<std::string> expect;
  bool wants_response = false;
};

// What `expect` takes: 100 to 599, or a class of them such as 2xx.
[[nodiscard]] bool is_status_pattern(std::string_view text);

// Errors: bad_field with the payload's field; denied, not_found for secrets. Never shows a secret.
[[nodiscard]] Result<HttpPlan> plan_http_call(const HttpTask& task,
                                              const RunJob& job,
                                              const nlohmann::json& payload);

// The settings that every task over HTTP has: base_url, allow, secrets_dir, response_bytes_max,
// connect_timeout, calls_per_host, ca_file.
[[nodiscard]] Result<void> take_common_settings(TaskSettings& settings, HttpTask& task);

class HttpRuntimeBuilder : public RuntimeBuilder {
 public:
  [[nodiscard]] Result<void> add(TaskSettings& settings) override;

  [[nodiscard]] DescriptorNeed descriptors(std::uint32_t) const override {
    return {CurlLoop::kDescriptorsKept, CurlLoop::kDescriptorsPerCall};
  }

  [[nodiscard]] std::unique_ptr<Runtime> build() override;

 private:
  std::map<std::string, HttpTask, std::less<>> tasks_;
};

}  // namespace sluice
