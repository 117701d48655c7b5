// The C++ client of a Sluice broker.
//
//   sluice::Client client({});
//   sluice::JobSpec job;
//   job.task = "echo";
//   job.payload = R"({"text": "hello"})";
//   job.content_type = "application/json";
//   auto accepted = client.submit(std::move(job));
//   if (!accepted) return fail(accepted.error().message());
//   auto ended = client.wait({sluice::JobId(accepted->id)}, 60'000);
//
// A Client needs no thread of yours and no call between calls: it works while one of its functions
// runs. It is not thread-safe: one per thread. A job whose submit was answered `accepted` or
// `duplicate` is safe; ids are made here when the spec has none, so whatever is sent again (by this
// class after a broken connection, or by you) never becomes a second job.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/protocol/messages.h"
#include "common/result.h"

namespace sluice {

class Connection;

struct ClientOptions {
  std::string broker;               // empty: the environment's SLUICE_BROKER, else kDefaultBroker
  std::int64_t timeout_ms = 5'000;  // how long one request may stay without an answer
  // How long wait() and BulkSubmit, once connected, outlive a broker that is away or silent.
  std::int64_t outage_ms = 30'000;
  std::size_t batches_in_flight = 8;  // of a bulk submit
};

inline constexpr std::string_view kDefaultBroker = "tcp://127.0.0.1:7711";

// Why a call brought no answer, or a refusal.
enum class ClientFailure : std::uint8_t {
  unreachable,  // no broker there, or it went away, for the whole time-out
  silent,       // it is there, or something is, and did not answer within the time-out
  refused,      // the broker answered with an error, or it is sure to: error.code says which
  unexpected,   // an answer of another kind: a broker of another version
};

struct ClientError {
  ClientFailure failure = ClientFailure::refused;
  Error error;  // `where`: the address when unreachable, else the field
  bool is_retryable = false;
  // The request went out and got no answer: the broker may have done what it asks all the same.
  bool may_be_done = false;

  // One sentence for people.
  [[nodiscard]] std::string message() const;
};

template <typename T>
using Answer = tl::expected<T, ClientError>;

struct WaitResult {
  std::vector<JobView> ended;  // in the order of their ends
  std::vector<JobId> unfinished;
};

// A UUIDv7 from the wall clock and the system's randomness.
[[nodiscard]] JobId new_job_id();

class Client {
 public:
  // Connects in the background. Throws std::runtime_error, which names it, when the
  // address is none.
  explicit Client(ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Every function waits for its answer at most `timeout_ms`. What the broker cannot take at this
  // moment (retry_later, store_unavailable, draining) is asked again within that time.

  // One job; an id is made when the spec has none. Refusals of the job (conflict, queue_full, ...)
  // are in the result's `status` and `error`, not a ClientError.
  Answer<SubmitResult> submit(JobSpec job);
  // 1 to kJobsPerSubmitMax jobs in one message, results in their order. Jobs that do not fit into a
  // message (kMessageBytesMax) are refused here, all of them: too_large, `jobs`. BulkSubmit takes
  // any number.
  Answer<Submitted> submit(std::vector<JobSpec> jobs);

  // In the order of `ids`, any number of them.
  Answer<std::vector<JobView>> get(const std::vector<JobId>& ids);
  // Until all have ended or `wait_ms` is over (at most ten years). `on_end` is called for each job
  // as it ends, from inside this call. Ids that the broker does not know come back as
  // `is_not_found`. Survives outages of the broker shorter than `outage_ms`.
  Answer<WaitResult> wait(const std::vector<JobId>& ids,
                          std::int64_t wait_ms,
                          const std::function<void(const JobView&)>& on_end = {});

  Answer<TargetsDone> cancel(Targets targets, std::string reason = {});
  Answer<TargetsDone> retry(Targets targets);
  Answer<TargetsDone> remove(Targets targets);
  Answer<Listed> list(Filter filter);  // one page; filter.state is required
  // A page of a job's log: what was logged behind the first `from` bytes. not_found for a job that
  // is not known, or is removed.
  Answer<LogPage> logs(JobId id, std::uint64_t from = 0);
  Answer<QueuesInfo> queues();
  Answer<WorkersInfo> workers();
  Answer<StatsInfo> stats();
  Answer<Done> pause(std::string queue);
  Answer<Done> resume(std::string queue);
  Answer<Done> purge(std::string queue);
  Answer<Done> drain(std::string node);
  Answer<Done> set_concurrency(std::string node, std::uint32_t concurrency);
  Answer<Pong> ping();

  // The first workload: an `analysis` job for one ticker and trade date (YYYY-MM-DD), tagged with
  // both, in the queue `analysis`. Wrong ones are refused here: bad_field, `ticker` or
  // `trade_date`.
  Answer<SubmitResult> queue_analysis(std::string_view ticker,
                                      std::string_view trade_date,
                                      Priority priority = Priority::normal);

  [[nodiscard]] const std::string& address() const;

 private:
  friend class BulkSubmit;

  template <typename T>
  Answer<T> call(const RequestBody& body);
  Answer<ReplyBody> call_any(const RequestBody& body);
  // Reads the answers to one `wait` request until its closing one; the caller's time is over at
  // `deadline_ms`. `more` collects the ids whose results did not fit.
  using TakeJobs = std::function<void(std::vector<JobView>&)>;
  Answer<void> read_wait(std::uint64_t number,
                         std::int64_t deadline_ms,
                         const TakeJobs& take,
                         std::vector<JobId>& more);
  [[nodiscard]] ClientError no_answer() const;

  ClientOptions options_;
  std::unique_ptr<Connection> connection_;
};

// Any number of jobs in bounded memory: batches of up to kJobsPerSubmitMax, several in flight, sent
// again when the connection breaks; jobs that the broker cannot take yet are sent again after its
// pause. Borrows the client, which must outlive it and must not be used meanwhile.
class BulkSubmit {
 public:
  // Called for each job when its fate is known, in no promised order. `index` counts add() from 0.
  using OnResult = std::function<void(std::uint64_t index, const SubmitResult&)>;

  // Called when jobs wait because the broker cannot take them yet, each time that it says so again.
  using OnWaiting = std::function<void(const Error& why)>;

  BulkSubmit(Client& client, OnResult on_result, OnWaiting on_waiting = nullptr);

  // Takes a job; may wait for answers when enough is in flight. Fails only when the broker cannot
  // be reached, refuses a whole message, or has taken nothing for `outage_ms` (its memory is full
  // and stays so); then the unanswered jobs may be submitted again.
  Answer<void> add(JobSpec job);
  // Sends what is left and waits for every answer.
  Answer<void> finish();

 private:
  struct Batch {
    std::vector<JobSpec> jobs;
    std::vector<std::uint64_t> indexes;
    std::size_t bytes = 0;
  };

  void post(Batch batch);
  Answer<void> read_until_open_at_most(std::size_t count);
  Answer<void> take(std::uint64_t number, ReplyBody& body);
  // Keeps the batch for later; fails when nothing was taken for `outage_ms`.
  Answer<void> put_off(Batch batch, const ErrorReply& why);

  Client& client_;
  OnResult on_result_;
  OnWaiting on_waiting_;
  Batch next_;
  std::uint64_t count_ = 0;
  std::unordered_map<std::uint64_t, Batch> in_flight_;
  std::vector<Batch> again_;
  std::int64_t again_ms_ = 0;
  std::int64_t put_off_since_ms_ = 0;  // nothing was taken since; 0 = the last answer took some
};

}  // namespace sluice
