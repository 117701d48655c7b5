#include "broker/store/redis_commands.h"

#include <charconv>

#include "broker/store/job_fields.h"
#include "broker/store/keys.h"
#include "broker/store/view_row.h"

namespace sluice {

namespace {

RespWriter& call(RespWriter& out, std::string_view function) {
  return out.add("FCALL").add(function).add("1").add(keys::kMeta);
}

std::string text_of(double value) {
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, 0).ptr;
  return {buffer, end};
}

void write_row(RespWriter& out, const ViewRow& row) {
  const FieldPairs fields = to_fields(row);
  out.add(row.job.id().view()).add_number(row.job.batch).add(to_string(row.job.state));
  out.add(row.job.spec.queue).add(text_of(index_score(row.job)));
  out.add(keeps_old_payload(row) ? "1" : "0");
  out.add_number(std::uint64_t{fields.size() * 2});
  for (const auto& [name, value] : fields)
    out.add(name).add(value);
}

void write_last(RespWriter& out, const ProjectRequest& request) {
  out.add("1").add_number(*request.checkpoint).add_number(request.next_sequence);
  out.add_number(request.wall_ms).add_number(request.view_lag_ms);
  out.add_number(request.finished_not_kept).add_number(request.trim_before_batch);
  out.add_number(request.retention.keep_ms).add_number(request.retention.failed_keep_ms);
  out.add_number(request.retention.keep_count);
  out.add_number(std::uint64_t{request.queues.size()});
  for (const QueueRecord& queue : request.queues) {
    out.add(queue.name).add(queue.is_paused ? "paused" : "active");
    visit_totals([&](unsigned, const char*, std::uint64_t total) { out.add_number(total); },
                 queue.totals);
  }
  out.add_number(std::uint64_t{request.trim_queues.size()});
  for (const std::string& queue : request.trim_queues)
    out.add(queue);
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
  call(out, "sluice_take_over").add_number(request.epoch).add(owner).add_number(request.base);
}

void write_commit(RespWriter& out, const CommitRequest& request, std::string_view owner) {
  call(out, "sluice_commit").add_number(request.epoch).add(owner);
  out.add_number(request.entry->n).add(request.entry->blob);
}

void write_project(RespWriter& out, const ProjectRequest& request, std::string_view owner) {
  call(out, "sluice_project").add_number(request.epoch).add(owner);
  out.add_number(std::uint64_t{request.rows.size()});
  for (const ViewRow& row : request.rows)
    write_row(out, row);
  out.add_number(std::uint64_t{request.removed.size()});
  for (const JobId& id : request.removed)
    out.add(id.view());
  out.add_number(std::uint64_t{request.nodes.size()});
  for (const NodeText& node : request.nodes)
    out.add(node.node).add(node.json);
  out.add_number(std::uint64_t{request.events.size()});
  for (const std::string& event : request.events)
    out.add(event);
  out.add_number(request.ended_chunk).add(request.ended_blob);
  out.add_number(std::uint64_t{request.ended_drop.size()});
  for (const std::uint64_t chunk : request.ended_drop)
    out.add_number(chunk);
  if (request.checkpoint)
    write_last(out, request);
  else
    out.add("0");
}

void write_list(RespWriter& out, const Filter& filter, const ListCursor& after) {
  call(out, "sluice_list").add(to_string(filter.state.value_or(JobState::queued)));
  out.add(filter.queue).add(after.queue).add(text_of(after.score)).add(after.id);
  out.add_number(std::uint64_t{filter.limit});
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
