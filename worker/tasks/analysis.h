// Kind `analysis`: a job {ticker, trade_date} is one run of an assistant on a LangGraph API server.
// The way of an attempt and the table's settings: README.md beside this file.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "worker/runtime/task_table.h"
#include "worker/tasks/http.h"

#include <nlohmann/json_fwd.hpp>

namespace sluice {

struct AnalysisTask {
  HttpTask http;        // base_url, rules, secrets, bounds
  std::string api_key;  // "secret:NAME", sent as X-Api-Key; empty = none
  std::string assistant_id;
  std::int64_t poll_ms = 2000;            // between looks at a run when joining it failed
  std::int64_t cancel_ms = 2000;          // for cancelling the remote run, at most
  std::int64_t call_timeout_ms = 30'000;  // of every call but the join
};

struct AnalysisInput {
  std::string ticker;
  std::string trade_date;
};

// Errors: bad_field. A ticker is [A-Z0-9.-]{1,12} with a letter or digit first, a date a real
// YYYY-MM-DD.
[[nodiscard]] Result<AnalysisInput> parse_analysis_input(const nlohmann::json& payload);

// The thread of a job's life: the same for all its attempts, so that one finds what an earlier one
// began.
[[nodiscard]] std::string analysis_thread_id(const JobId& id, std::uint32_t life);

class AnalysisRuntimeBuilder : public RuntimeBuilder {
 public:
  [[nodiscard]] Result<void> add(TaskSettings& settings) override;

  [[nodiscard]] DescriptorNeed descriptors(std::uint32_t) const override {
    return {CurlLoop::kDescriptorsKept, CurlLoop::kDescriptorsPerCall};
  }

  [[nodiscard]] std::unique_ptr<Runtime> build() override;

 private:
  std::map<std::string, AnalysisTask, std::less<>> tasks_;
};

}  // namespace sluice
