#include "broker/store/redis_commands.h"

#include <charconv>

#include "broker/store/job_fields.h"
#include "broker/store/keys.h"
#include "broker/store/view_row.h"
#include "common/protocol/msgpack.h"

namespace sluice {

namespace {

RespWriter& call(RespWriter& out, std::string_view function) {
  return out.add("FCALL").add(function).add("1").add(keys::kMeta);
}

std::string score_text(double value) {
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, 0).ptr;
  return {buffer, end};
}

void write_row(msgpack::Writer& out, const ViewRow& row) {
  const FieldPairs fields = to_fields(row);
  out.array(7);
  out.str(row.job.id().view());
  out.unsigned_integer(row.job.batch);
  out.str(to_string(row.job.state));
  out.str(row.job.spec.queue);
  out.str(score_text(index_score(row.job)));
  out.boolean(keeps_old_payload(row));
  out.array(fields.size() * 2);
  for (const auto& [name, value] : fields) {
    out.str(name);
    out.str(value);
  }
}

void write_trim(msgpack::Writer& out, const ProjectRequest& request) {
  out.array(request.trim_queues.size());
  for (const std::string& queue : request.trim_queues)
    out.str(queue);
  out.unsigned_integer(request.trim_before_batch);
  out.integer(request.wall_ms);
  out.integer(request.retention.keep_ms);
  out.integer(request.retention.failed_keep_ms);
  out.unsigned_integer(request.retention.keep_count);
}

void write_last(msgpack::Writer& out, const ProjectRequest& request) {
  out.array(5);
  out.unsigned_integer(*request.checkpoint);
  out.unsigned_integer(request.next_sequence);
  out.integer(request.view_lag_ms);
  out.unsigned_integer(request.finished_not_kept);
  out.array(request.queues.size());
  for (const QueueRecord& queue : request.queues) {
    out.array(11);
    out.str(queue.name);
    out.str(queue.is_paused ? "paused" : "active");
    visit_totals([&](unsigned, const char*, std::uint64_t total) { out.unsigned_integer(total); },
                 queue.totals);
  }
}

// One msgpack document: Lua reads it at once, which costs a third of as many arguments.
std::string project_call(const ProjectRequest& request) {
  std::string blob;
  blob.reserve(512 + request.rows.size() * 768);
  msgpack::Writer out(blob);
  out.array(15);
  out.array(request.rows.size());
  for (const ViewRow& row : request.rows)
    write_row(out, row);
  out.array(request.removed.size());
  for (const JobId& id : request.removed)
    out.str(id.view());
  out.array(request.retired.size() * 2);
  for (const RetiredJob& job : request.retired) {
    out.str(job.id.view());
    out.str(std::to_string(job.batch));
  }
  out.array(request.nodes.size() * 2);
  for (const NodeText& node : request.nodes) {
    out.str(node.node);
    out.str(node.json);
  }
  out.array(request.events.size());
  for (const std::string& event : request.events)
    out.str(event);
  out.unsigned_integer(request.ended_chunk);
  out.str(request.ended_blob);
  out.array(request.ended_drop.size());
  for (const std::uint64_t chunk : request.ended_drop)
    out.unsigned_integer(chunk);
  write_trim(out, request);
  if (request.checkpoint)
    write_last(out, request);
  else
    out.boolean(false);
  return blob;
}

std::string_view value_of(std::string_view info, std::string_view name) {
  const std::string key = "\n" + std::string(name) + ":";
  const std::size_t at = info.find(key);
  if (at == info.npos) return {};
  const std::string_view rest = info.substr(at + key.size());
  return rest.substr(0, rest.find_first_of("\r\n"));
}

double number_of(std::string_view text) {
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

struct NameCollector {
  std::vector<std::string>& names;

  template <typename T>
  void operator()(unsigned, const char* name, bool, T&&) {
    if (std::string_view(name) != "result") names.emplace_back(name);
  }
};

}  // namespace

void write_take_over(RespWriter& out, const TakeOver& request, std::string_view owner) {
  call(out, "sluice_take_over").add_number(request.epoch).add(owner);
  out.add_number(request.base).add_number(request.replaced_epoch);
}

void write_commit(RespWriter& out, const CommitRequest& request, std::string_view owner) {
  call(out, "sluice_commit").add_number(request.epoch).add(owner);
  out.add_number(request.entry->n).add(request.entry->blob);
}

void write_project(RespWriter& out, const ProjectRequest& request, std::string_view owner) {
  call(out, "sluice_project").add_number(request.epoch).add(owner).add(project_call(request));
}

void write_list(RespWriter& out, const Filter& filter, const ListCursor& after) {
  call(out, "sluice_list").add(to_string(filter.state.value_or(JobState::queued)));
  out.add(filter.queue).add(after.queue).add(score_text(after.score)).add(after.id);
  out.add_number(std::uint64_t{filter.limit});
}

void write_read_log(RespWriter& out, const ReadLog& request) {
  out.add("XRANGE").add(keys::kLog).add(std::to_string(request.from) + "-0");
  out.add(std::to_string(request.to) + "-0").add("COUNT").add_number(std::uint64_t{kLogPage});
}

void write_add_to_logs(RespWriter& out, const AddToLogs& request, std::string_view owner) {
  call(out, "sluice_logs_add").add_number(request.epoch).add(owner);
  out.add_number(request.bytes_max);
  for (const AddedLog& added : *request.added) {
    out.add(added.id.view()).add_number(std::uint64_t{added.chunk.attempt});
    out.add_number(added.chunk.at_ms).add(added.chunk.bytes);
  }
}

void write_read_job_log(RespWriter& out, const FetchJobLog& request) {
  call(out, "sluice_log_read").add(request.id.view()).add_number(request.from);
}

void write_read_meta(RespWriter& out) {
  out.add("HMGET").add(keys::kMeta).add("layout").add("epoch").add("owner").add("last");
  out.add("checkpoint");
}

const std::vector<std::string>& light_fields() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    NameCollector collector{found};
    Job job;
    visit_job(collector, job);
    return found;
  }();
  return names;
}

RedisInfo read_info(std::string_view info, std::string_view fsync) {
  RedisInfo read;
  read.run_id = value_of(info, "run_id");
  read.is_loading = value_of(info, "loading") == "1";
  const double used = number_of(value_of(info, "used_memory"));
  const double limit = number_of(value_of(info, "maxmemory"));
  read.is_full = limit > 0 && used > 0.85 * limit;
  if (value_of(info, "aof_enabled") != "1" || fsync == "no")
    read.durability = Durability::memory;
  else if (fsync == "always")
    read.durability = Durability::always;
  const std::string_view policy = value_of(info, "maxmemory_policy");
  if (const auto role = value_of(info, "role"); !role.empty() && role != "master")
    read.unsafe = "this Redis is a replica and can not be written: give the address of its master";
  else if (!policy.empty() && policy != "noeviction")
    read.unsafe = "maxmemory-policy is " + std::string(policy) +
                  ", which deletes jobs when memory is short: set it to noeviction";
  return read;
}

}  // namespace sluice
