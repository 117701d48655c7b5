// Bytes <-> messages. Every bound and grammar of PROTOCOL.md is checked here, once; what these
// functions return may be trusted. Pure, thread-safe, no exceptions.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/protocol/messages.h"
#include "common/result.h"

namespace sluice {

// A request that could not be taken. `req` is what to echo: msgpack nil when it was not readable.
struct BadRequest {
  Req req;
  Error error;
};

// ---- broker side
[[nodiscard]] tl::expected<Request, BadRequest> decode_request(std::string_view frame);
// A wrong entry of a `result` does not hold up the others: with a readable fence it comes as a
// failed attempt, else it is left out; `wrong_entry` is set to what was wrong with the first.
[[nodiscard]] Result<WorkerMessage> decode_worker_message(
    std::string_view frame, std::optional<Error>* wrong_entry = nullptr);
[[nodiscard]] std::string encode_reply(const Reply& reply);
[[nodiscard]] std::string encode_broker_message(const BrokerMessage& message);
// A `run` straight from the jobs, without a copy of their payloads. Same bytes as
// encode_broker_message.
[[nodiscard]] std::string encode_run(Seen number, std::span<const Job* const> jobs);
// About how many bytes the job takes in a `run`; never less than it really takes.
[[nodiscard]] std::size_t run_bytes_bound(const Job& job);
// The same for a job in a reply (`jobs`, `finished`, `listed`), payload and result included.
[[nodiscard]] std::size_t job_view_bytes_bound(const Job& job);
[[nodiscard]] std::string event_topic(const EventBody& event);
[[nodiscard]] std::string encode_event(const EventBody& event, std::uint64_t sequence);

// ---- client and worker side
[[nodiscard]] std::string encode_request(const Request& request);
[[nodiscard]] Result<Reply> decode_reply(std::string_view frame);
[[nodiscard]] std::string encode_worker_message(const WorkerMessage& message);
[[nodiscard]] Result<BrokerMessage> decode_broker_message(std::string_view frame);

[[nodiscard]] Result<SequencedEvent> decode_event(std::string_view frame);

// A client's number as `req`.
[[nodiscard]] Req make_req(std::uint64_t number);
[[nodiscard]] std::optional<std::uint64_t> req_number(const Req& req);

}  // namespace sluice
