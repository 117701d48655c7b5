// Every bound of the system in one place. Bounds are checked once, at the edge (codec, config,
// command line); the cores trust what passed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice {

inline constexpr std::size_t kIdBytesMax = 64;        // job id
inline constexpr std::size_t kNameBytesMax = 64;      // queue and task names
inline constexpr std::size_t kNodeNameBytesMax = 64;  // the part of a node id before '@'
inline constexpr std::size_t kNodeIdBytesMax = 96;    // name '@' life
inline constexpr std::size_t kReqBytesMax = 72;  // an echoed request number or string, as msgpack
inline constexpr std::size_t kPayloadBytesMax = 1 << 20;
inline constexpr std::size_t kResultBytesMax = 1 << 20;
inline constexpr std::size_t kErrorTextBytesMax = 4096;
inline constexpr std::size_t kErrorCodeBytesMax = 64;
inline constexpr std::size_t kReasonBytesMax = 256;  // why a job was cancelled
inline constexpr std::size_t kContentTypeBytesMax = 128;
inline constexpr std::size_t kCheckpointBytesMax = 4096;
inline constexpr std::size_t kProgressTextBytesMax = 256;
inline constexpr std::size_t kLogChunkBytesMax = 16u << 10;  // of a job's log, in one message
inline constexpr std::size_t kLogKeptBytes = 1u << 20;       // of a job's log, in Redis
inline constexpr std::size_t kLogChunksKept = 16'384;        // or so many pieces of it
inline constexpr std::size_t kLogPageBytes = 256u << 10;     // of a job's log, in one answer
inline constexpr std::size_t kLogPageChunks = 1000;
inline constexpr std::size_t kMessageBytesMax = 8u << 20;
inline constexpr std::size_t kJobsPerSubmitMax = 1000;
inline constexpr std::size_t kIdsPerRequestMax = 1000;
inline constexpr std::size_t kListLimitMax = 200;
inline constexpr std::size_t kTagsMax = 16;
inline constexpr std::size_t kTagBytesMax = 128;
inline constexpr std::size_t kHeadersMax = 16;
inline constexpr std::size_t kHeaderNameBytesMax = 64;
inline constexpr std::size_t kHeaderValueBytesMax = 1024;
inline constexpr std::size_t kTasksPerNodeMax = 256;
inline constexpr std::size_t kQueuesPerNodeMax = 256;
inline constexpr std::size_t kLabelsPerNodeMax = 32;
inline constexpr std::size_t kQueuesMax = 10'000;  // that a broker knows; they are not forgotten
inline constexpr std::size_t kLinesMax = 20'000;   // pairs of queue and task, likewise
inline constexpr std::size_t kHeldMax = 16384;     // attempts in one status
inline constexpr std::size_t kAttemptsKept = 10;   // attempt records kept with a job

inline constexpr std::uint32_t kMaxRetriesMax = 1000;
inline constexpr std::uint32_t kMaxRetriesDefault = 3;
inline constexpr std::uint32_t kLostMax = 3;  // the third lost attempt ends the job
inline constexpr std::uint32_t kConcurrencyMax = 10000;
inline constexpr std::uint32_t kPercentMax = 100;

inline constexpr std::int64_t kTenYearsMs = 10LL * 365 * 24 * 3600 * 1000;
inline constexpr std::int64_t kTimeoutDefaultMs = 30LL * 60 * 1000;
inline constexpr std::int64_t kBackoffBaseDefaultMs = 30'000;
inline constexpr std::int64_t kBackoffCapDefaultMs = 3'600'000;
inline constexpr std::int64_t kHeartbeatDefaultMs = 3'000;
inline constexpr std::int64_t kDeadAfterDefaultMs = 15'000;
inline constexpr std::int64_t kGraceDefaultMs = 15'000;  // running jobs at a broker start
inline constexpr std::int64_t kTimeoutBackstopMs =
    15'000;  // broker's own time-out, after the worker's
inline constexpr std::int64_t kDrainGraceDefaultMs = 25'000;
inline constexpr std::int64_t kWaitMaxMs = 24LL * 3600 * 1000;

inline constexpr std::uint32_t kProtocolVersion = 1;

}  // namespace sluice
