#include "producer/client.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>
#include <utility>

#include "common/analysis.h"
#include "common/clock.h"
#include "common/protocol/msgpack.h"
#include "producer/connection.h"

namespace sluice {

namespace {

// A broker that never was there is given up sooner than one that went away.
Connection::Outage outage_max(const ClientOptions& options) {
  return {options.timeout_ms, std::max(options.outage_ms, options.timeout_ms)};
}

constexpr std::int64_t kRetryPauseMs = 100;  // when the broker names no pause
// What one request asks for; answered by then, it is made anew. The broker keeps one for so long
// whose sender is gone.
constexpr std::int64_t kWaitSliceMs = 60'000;
constexpr std::size_t kJobOverheadBytes = 512;  // of a job beside its texts, as a bound
constexpr std::size_t kSubmitBytesMax = kMessageBytesMax - 65'536;  // of its jobs

std::string chosen_address(std::string address) {
  if (!address.empty()) return address;
  const char* environment = std::getenv("SLUICE_BROKER");  // NOLINT(concurrency-mt-unsafe)
  if (environment != nullptr && *environment != '\0') return environment;
  return std::string(kDefaultBroker);
}

std::int64_t pause_ms(const ErrorReply& reply) {
  return std::clamp<std::int64_t>(reply.retry_after_ms.value_or(kRetryPauseMs), 1, 5'000);
}

// Whether asking the same again soon is likely to help. A full queue or store is not such a case.
bool is_passing(ErrorCode code) {
  return code == ErrorCode::retry_later || code == ErrorCode::store_unavailable ||
         code == ErrorCode::draining;
}

ClientError refusal(const ErrorReply& reply) {
  return {ClientFailure::refused, reply.error, reply.retryable};
}

ClientError unexpected(std::string_view wanted) {
  return {ClientFailure::unexpected,
          {ErrorCode::unsupported_version,
           "",
           "the broker answered something else than " + std::string(wanted) +
               ": is it of another version?"},
          false,
          true};
}

void give_id(JobSpec& job) {
  if (job.id.empty()) job.id = new_job_id();
}

ClientError too_large(std::string field, std::string detail) {
  return {ClientFailure::refused,
          {ErrorCode::too_large, std::move(field), std::move(detail)},
          false};
}

struct Part {
  std::string_view field;
  std::size_t bytes = 0;
};

// An upper bound of what each takes in a message, beside kJobOverheadBytes.
std::array<Part, 7> parts_of(const JobSpec& job) {
  std::size_t tags_bytes = 0;
  for (const std::string& tag : job.tags)
    tags_bytes += tag.size() + 8;
  std::size_t headers_bytes = 0;
  for (const auto& header : job.headers)
    headers_bytes += header.name.size() + header.value.size() + 16;
  return {{{"payload", job.payload.size()},
           {"tags", tags_bytes},
           {"headers", headers_bytes},
           {"id", job.id.view().size()},
           {"task", job.task.size()},
           {"queue", job.queue.size()},
           {"content_type", job.content_type.size()}}};
}

std::size_t bytes_at_most(const JobSpec& job) {
  std::size_t bytes = kJobOverheadBytes;
  for (const Part& part : parts_of(job))
    bytes += part.bytes;
  return bytes;
}

// Of a job that no message holds, so that the broker could not say which it refuses: it would be
// sent again and again.
std::optional<Error> too_large_alone(const JobSpec& job, std::size_t index) {
  if (bytes_at_most(job) <= kSubmitBytesMax) return std::nullopt;
  const auto parts = parts_of(job);
  const Part& largest =
      *std::max_element(parts.begin(), parts.end(), [](const auto& a, const auto& b) {
        return a.bytes < b.bytes;
      });
  return Error{ErrorCode::too_large,
               "jobs[" + std::to_string(index) + "]." + std::string(largest.field),
               "is too long for a message, which has at most 8 MiB"};
}

SubmitResult rejected(const JobSpec& job, Error error) {
  return {job.id.str(), SubmitStatus::rejected, {}, std::move(error)};
}

}  // namespace

std::string ClientError::message() const {
  const bool has_answer = failure != ClientFailure::unreachable && failure != ClientFailure::silent;
  if (!has_answer || error.where.empty()) return error.detail;
  return error.where + ": " + error.detail;
}

JobId new_job_id() {
  using namespace std::chrono;
  thread_local std::random_device device;
  std::array<std::uint8_t, 10> random{};
  for (std::size_t i = 0; i < random.size(); i += 4) {
    const std::uint32_t word = device();
    for (std::size_t j = i; j < std::min(i + 4, random.size()); ++j)
      random[j] = static_cast<std::uint8_t>(word >> (8 * (j - i)));
  }
  const auto wall = duration_cast<milliseconds>(system_clock::now().time_since_epoch());
  return JobId(make_uuid_v7(wall.count(), random));
}

Client::Client(ClientOptions options) : options_(std::move(options)) {
  options_.broker = chosen_address(std::move(options_.broker));
  connection_ = std::make_unique<Connection>(options_.broker);
}

Client::~Client() = default;

const std::string& Client::address() const {
  return options_.broker;
}

ClientError Client::no_answer() const {
  std::string detail;
  const bool is_silent =
      connection_->is_up() || (connection_->is_accepted() && connection_->refusal().empty());
  if (!connection_->refusal().empty()) {
    detail = "no broker at " + options_.broker + ": " + connection_->refusal();
  } else if (connection_->is_up()) {
    detail = "the broker at " + options_.broker + " did not answer in time; ask again, or " +
             "look at its log";
  } else if (is_silent) {
    detail = "what listens at " + options_.broker + " accepts the connection and says nothing; " +
             "if it is the broker, it is stopped or hangs";
  } else {
    detail = std::string(connection_->was_up() ? "the broker at " : "no broker answers at ") +
             options_.broker + (connection_->was_up() ? " went away" : "") +
             "; start one with `sluice-broker`, or name another with --broker or SLUICE_BROKER";
  }
  return {is_silent ? ClientFailure::silent : ClientFailure::unreachable,
          {ErrorCode::store_unavailable, options_.broker, std::move(detail)},
          true};
}

// One request, one closing answer. Refusals that pass are asked again while time is left.
Answer<ReplyBody> Client::call_any(const RequestBody& body) {
  const std::int64_t deadline_ms = monotonic_ms() + options_.timeout_ms;
  std::uint64_t number = connection_->post(body);
  if (number == 0)
    return tl::unexpected(too_large(std::holds_alternative<Submit>(body) ? "jobs" : "",
                                    "more than a message of 8 MiB holds; give fewer at once"));
  std::optional<ErrorReply> refused;
  bool may_be_done = false;
  for (;;) {
    auto answer = connection_->receive(deadline_ms, {options_.timeout_ms, options_.timeout_ms});
    if (!answer) {
      const bool was_sent = connection_->forget(number);
      // Asked again too late to be answered: what it said before is the reason.
      ClientError error = refused && connection_->is_up() ? refusal(*refused) : no_answer();
      error.may_be_done = was_sent || may_be_done;
      return tl::unexpected(std::move(error));
    }
    if (answer->number != number || !answer->is_closing) continue;
    const auto* error = std::get_if<ErrorReply>(&answer->body);
    if (error == nullptr) return std::move(answer->body);
    may_be_done = may_be_done || answer->was_resent;
    const std::int64_t pause = pause_ms(*error);
    if (!is_passing(error->error.code) || monotonic_ms() + pause >= deadline_ms) {
      ClientError refused_error = refusal(*error);
      refused_error.may_be_done = may_be_done;
      return tl::unexpected(std::move(refused_error));
    }
    refused = *error;
    std::this_thread::sleep_for(std::chrono::milliseconds(pause));
    number = connection_->post(body);
  }
}

template <typename T>
Answer<T> Client::call(const RequestBody& body) {
  auto answer = call_any(body);
  if (!answer) return tl::unexpected(std::move(answer.error()));
  if (auto* wanted = std::get_if<T>(&*answer)) return std::move(*wanted);
  return tl::unexpected(unexpected("was asked"));
}

Answer<SubmitResult> Client::submit(JobSpec job) {
  give_id(job);
  if (auto error = too_large_alone(job, 0)) return rejected(job, std::move(*error));
  std::vector<JobSpec> jobs;
  jobs.push_back(std::move(job));
  auto answer = submit(std::move(jobs));
  if (!answer) return tl::unexpected(std::move(answer.error()));
  if (answer->results.size() != 1) return tl::unexpected(unexpected("one result for one job"));
  return std::move(answer->results.front());
}

Answer<Submitted> Client::submit(std::vector<JobSpec> jobs) {
  Submit submit;
  submit.jobs.reserve(jobs.size());
  for (JobSpec& job : jobs) {
    give_id(job);
    if (auto error = too_large_alone(job, submit.jobs.size()))
      return tl::unexpected(too_large(std::move(error->where), std::move(error->detail)));
    submit.jobs.emplace_back(std::move(job));
  }
  return call<Submitted>(submit);
}

Answer<std::vector<JobView>> Client::get(const std::vector<JobId>& ids) {
  std::unordered_map<JobId, JobView> found;
  std::vector<JobId> open = ids;
  while (!open.empty()) {
    const std::size_t count = std::min(open.size(), kIdsPerRequestMax);
    const auto page_end = open.begin() + static_cast<std::ptrdiff_t>(count);
    auto answer = call<Jobs>(Get{{open.begin(), page_end}});
    if (!answer) return tl::unexpected(std::move(answer.error()));
    if (answer->jobs.empty()) return tl::unexpected(unexpected("at least one job"));
    for (JobView& job : answer->jobs)
      found.insert_or_assign(job.id, std::move(job));
    open.erase(open.begin(), page_end);
    open.insert(open.begin(), answer->more.begin(), answer->more.end());
  }
  std::vector<JobView> jobs;
  jobs.reserve(ids.size());
  for (const JobId& id : ids) {
    const auto job = found.find(id);
    if (job == found.end()) return tl::unexpected(unexpected("every job"));
    jobs.push_back(job->second);
  }
  return jobs;
}

namespace {

// What one `wait` (of at most kIdsPerRequestMax ids) still has to bring.
struct WaitState {
  std::vector<JobId> open;
  std::vector<JobView> ended;

  bool take(JobView view) {
    const auto at = std::find(open.begin(), open.end(), view.id);
    if (at == open.end()) return false;
    open.erase(at);
    ended.push_back(std::move(view));
    return true;
  }
};

}  // namespace

Answer<void> Client::read_wait(std::uint64_t number,
                               std::int64_t deadline_ms,
                               const TakeJobs& take,
                               std::vector<JobId>& more) {
  for (;;) {
    auto answer = connection_->receive(deadline_ms + options_.timeout_ms, outage_max(options_));
    if (!answer) {
      connection_->forget(number);
      // The clock of a broker whose Redis was away has stood meanwhile, and it answers later.
      if (connection_->is_up() && ping()) return {};
      return tl::unexpected(no_answer());
    }
    if (answer->number != number) continue;
    if (auto* finished = std::get_if<Finished>(&answer->body)) {
      take(finished->jobs);
      more.insert(more.end(), finished->more.begin(), finished->more.end());
    } else if (auto* waited = std::get_if<Waited>(&answer->body)) {
      take(waited->jobs);
      more.insert(more.end(), waited->more.begin(), waited->more.end());
      return {};
    } else if (const auto* error = std::get_if<ErrorReply>(&answer->body)) {
      const std::int64_t pause = pause_ms(*error);
      if (!is_passing(error->error.code) || monotonic_ms() + pause >= deadline_ms)
        return tl::unexpected(refusal(*error));
      std::this_thread::sleep_for(std::chrono::milliseconds(pause));
      return {};
    } else {
      return tl::unexpected(unexpected("was asked"));
    }
  }
}

Answer<WaitResult> Client::wait(const std::vector<JobId>& ids,
                                std::int64_t wait_ms,
                                const std::function<void(const JobView&)>& on_end) {
  WaitState state{ids, {}};
  const TakeJobs take = [&](std::vector<JobView>& jobs) {
    for (JobView& job : jobs)
      if (state.take(std::move(job)) && on_end) on_end(state.ended.back());
  };
  const std::int64_t deadline_ms =
      monotonic_ms() + std::clamp<std::int64_t>(wait_ms, 0, kTenYearsMs);
  while (!state.open.empty()) {
    Wait request;
    const std::size_t count = std::min(state.open.size(), kIdsPerRequestMax);
    request.ids.assign(state.open.begin(), state.open.begin() + static_cast<std::ptrdiff_t>(count));
    request.timeout_ms = std::clamp<std::int64_t>(deadline_ms - monotonic_ms(), 0, kWaitSliceMs);
    std::vector<JobId> more;
    auto read = read_wait(connection_->post(request), deadline_ms, take, more);
    if (!read) return tl::unexpected(std::move(read.error()));
    if (!more.empty()) {
      auto rest = get(more);
      if (!rest) return tl::unexpected(std::move(rest.error()));
      take(*rest);
    }
    if (monotonic_ms() >= deadline_ms) break;
  }
  return WaitResult{std::move(state.ended), std::move(state.open)};
}

Answer<TargetsDone> Client::cancel(Targets targets, std::string reason) {
  return call<TargetsDone>(Cancel{std::move(targets), std::move(reason)});
}

Answer<TargetsDone> Client::retry(Targets targets) {
  return call<TargetsDone>(Retry{std::move(targets)});
}

Answer<TargetsDone> Client::remove(Targets targets) {
  return call<TargetsDone>(Delete{std::move(targets)});
}

Answer<Listed> Client::list(Filter filter) {
  return call<Listed>(List{std::move(filter)});
}

Answer<LogPage> Client::logs(JobId id, std::uint64_t from) {
  return call<LogPage>(Logs{std::move(id), from});
}

Answer<QueuesInfo> Client::queues() {
  return call<QueuesInfo>(Queues{});
}

Answer<WorkersInfo> Client::workers() {
  return call<WorkersInfo>(Workers{});
}

Answer<StatsInfo> Client::stats() {
  return call<StatsInfo>(Stats{});
}

Answer<Done> Client::pause(std::string queue) {
  return call<Done>(Pause{std::move(queue)});
}

Answer<Done> Client::resume(std::string queue) {
  return call<Done>(Resume{std::move(queue)});
}

Answer<Done> Client::purge(std::string queue) {
  return call<Done>(Purge{std::move(queue)});
}

Answer<Done> Client::drain(std::string node) {
  return call<Done>(Drain{std::move(node)});
}

Answer<Done> Client::set_concurrency(std::string node, std::uint32_t concurrency) {
  return call<Done>(SetConcurrency{std::move(node), concurrency});
}

Answer<Pong> Client::ping() {
  return call<Pong>(Ping{});
}

Answer<SubmitResult> Client::queue_analysis(std::string_view ticker,
                                            std::string_view trade_date,
                                            Priority priority) {
  if (auto checked = check_analysis(ticker, trade_date); !checked)
    return tl::unexpected(ClientError{ClientFailure::refused, std::move(checked.error()), false});
  JobSpec job;
  job.task = "analysis";
  job.queue = "analysis";
  job.priority = priority;
  job.tags = {std::string(ticker), std::string(trade_date)};
  msgpack::Writer payload(job.payload);
  payload.map(2);
  payload.str("ticker");
  payload.str(ticker);
  payload.str("trade_date");
  payload.str(trade_date);
  return submit(std::move(job));
}

// ---------------------------------------------------------------- BulkSubmit

BulkSubmit::BulkSubmit(Client& client, OnResult on_result, OnWaiting on_waiting)
    : client_(client), on_result_(std::move(on_result)), on_waiting_(std::move(on_waiting)) {}

Answer<void> BulkSubmit::add(JobSpec job) {
  give_id(job);
  if (auto error = too_large_alone(job, 0)) {
    const std::uint64_t index = count_++;
    if (on_result_) on_result_(index, rejected(job, std::move(*error)));
    return {};
  }
  const std::size_t bytes = bytes_at_most(job);
  const bool is_full =
      next_.jobs.size() == kJobsPerSubmitMax || next_.bytes + bytes > kSubmitBytesMax;
  if (is_full) {
    post(std::exchange(next_, {}));
    if (auto done = read_until_open_at_most(client_.options_.batches_in_flight - 1); !done)
      return done;
  }
  next_.bytes += bytes;
  next_.jobs.push_back(std::move(job));
  next_.indexes.push_back(count_++);
  return {};
}

Answer<void> BulkSubmit::finish() {
  if (!next_.jobs.empty()) post(std::exchange(next_, {}));
  return read_until_open_at_most(0);
}

void BulkSubmit::post(Batch batch) {
  Submit submit;
  submit.jobs.assign(batch.jobs.begin(), batch.jobs.end());
  in_flight_.emplace(client_.connection_->post(submit), std::move(batch));
}

Answer<void> BulkSubmit::read_until_open_at_most(std::size_t count) {
  while (in_flight_.size() + again_.size() > count) {
    const std::int64_t now_ms = monotonic_ms();
    const bool is_pausing = !again_.empty() && now_ms < again_ms_;
    if (!again_.empty() && !is_pausing)
      for (Batch& batch : std::exchange(again_, {}))
        post(std::move(batch));
    const std::int64_t patience_ms =
        std::max(client_.options_.outage_ms, client_.options_.timeout_ms);
    const std::int64_t deadline_ms = is_pausing ? again_ms_ : now_ms + patience_ms;
    auto answer = client_.connection_->receive(deadline_ms, outage_max(client_.options_));
    if (answer) {
      if (auto taken = take(answer->number, answer->body); !taken) return taken;
    } else if (!is_pausing) {
      return tl::unexpected(client_.no_answer());
    }
  }
  return {};
}

Answer<void> BulkSubmit::put_off(Batch batch, const ErrorReply& why) {
  const std::int64_t now_ms = monotonic_ms();
  again_ms_ = now_ms + pause_ms(why);
  again_.push_back(std::move(batch));
  if (put_off_since_ms_ == 0) put_off_since_ms_ = now_ms;
  if (now_ms - put_off_since_ms_ > client_.options_.outage_ms) return tl::unexpected(refusal(why));
  if (on_waiting_) on_waiting_(why.error);
  return {};
}

Answer<void> BulkSubmit::take(std::uint64_t number, ReplyBody& body) {
  const auto found = in_flight_.find(number);
  if (found == in_flight_.end()) return {};
  Batch batch = std::move(found->second);
  in_flight_.erase(found);
  if (const auto* error = std::get_if<ErrorReply>(&body)) {
    if (!is_passing(error->error.code)) return tl::unexpected(refusal(*error));
    return put_off(std::move(batch), *error);
  }
  const auto* submitted = std::get_if<Submitted>(&body);
  if (submitted == nullptr || submitted->results.size() != batch.jobs.size())
    return tl::unexpected(unexpected("one result for each job"));
  Batch later;
  ErrorReply why{{}, true, {}};
  for (std::size_t i = 0; i < batch.jobs.size(); ++i) {
    const SubmitResult& result = submitted->results[i];
    const bool is_later =
        result.status == SubmitStatus::rejected && result.error && is_passing(result.error->code);
    if (is_later) {
      why.error = *result.error;
      later.jobs.push_back(std::move(batch.jobs[i]));
      later.indexes.push_back(batch.indexes[i]);
    } else {
      put_off_since_ms_ = 0;
      if (on_result_) on_result_(batch.indexes[i], result);
    }
  }
  return later.jobs.empty() ? Answer<void>{} : put_off(std::move(later), why);
}

}  // namespace sluice
