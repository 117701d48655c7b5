// The store's requests as Redis commands, and what an INFO says about whether a Redis is safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "broker/store/list_cursor.h"
#include "broker/store/resp_writer.h"
#include "broker/store/store.h"

namespace sluice {

void write_take_over(RespWriter& out, const TakeOver& request, std::string_view owner);
void write_commit(RespWriter& out, const CommitRequest& request, std::string_view owner);
void write_project(RespWriter& out, const ProjectRequest& request, std::string_view owner);
void write_list(RespWriter& out, const Filter& filter, const ListCursor& after);
void write_read_log(RespWriter& out, const ReadLog& request);
void write_add_to_logs(RespWriter& out, const AddToLogs& request, std::string_view owner);
void write_read_job_log(RespWriter& out, const FetchJobLog& request);
void write_read_meta(RespWriter& out);

// Every field of a job's hash but payload and result.
[[nodiscard]] const std::vector<std::string>& light_fields();

struct RedisInfo {
  std::string run_id;
  Durability durability = Durability::everysec;
  bool is_full = false;
  bool is_loading = false;
  std::string unsafe;  // a sentence that names the setting and what to do; empty = fine
};

// `fsync` is the value of the setting appendfsync, empty where it can not be read.
[[nodiscard]] RedisInfo read_info(std::string_view info, std::string_view fsync);

}  // namespace sluice
