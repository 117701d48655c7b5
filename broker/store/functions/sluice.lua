#!lua name=sluice
-- The state of one partition, written by four functions and read by two more. KEYS.md is the specification.
--
-- Every function: KEYS[1] = <prefix>meta; the other keys have the same prefix and so the same hash
-- slot. Everything is checked before the first write. Replies are flat arrays of strings.
--
--   take_over  ARGV: epoch, owner, base, replaced epoch (0 = a start; else refused when another
--              owner's newer epoch is stored)
--              -> {"1" taken | "0" refused, layout, epoch, owner, last, checkpoint}
--   commit     ARGV: epoch, owner, n, blob
--              -> {"ok"} | {"already"} | {"gap", last} | {"fenced", epoch} | {"rolled_back"}
--   project    ARGV: epoch, owner, one msgpack document (read_project below)
--              -> {"ok", checkpoint, removed, renamed foreign keys, and of each job to retire
--                  id, batch, state, content hash, finished_ms} | {"fenced", epoch}
--                 | {"rolled_back"}
--   list       ARGV: state, queue, cursor queue, score, id, limit (reads only)
--              -> {checkpoint, next queue, next score, next id, id...}; no next id = no more

--   logs_add   ARGV: epoch, owner, bytes that all logs may have, and of each chunk job id, attempt,
--              at_ms, bytes
--              -> {"ok", of each how much its job ever wrote, or 0: all logs are full} | {"fenced", epoch} | {"rolled_back"}
--   log_read   ARGV: job id, from (reads only)
--              -> {size, and of each chunk that ends behind `from`, a page of them,
--                  end, attempt, at_ms, bytes}

local LAYOUT = '1'
local LOG_STEP = 256
local EVENTS_MAX = 10000
local TRIM_MAX = 256
local FRESH_MS = 60000
local RETIRE_MAX = 1024
local ID_BYTES_MAX = 64
local LOG_KEPT = 1048576
local LOG_CHUNK_MAX = 16384
local LOG_CHUNKS_KEPT = 16384
local LOG_PAGE = 262144
local LOG_PAGE_CHUNKS = 1000
local TOTALS = {'submitted', 'completed', 'failed', 'cancelled', 'retried', 'lost', 'handed_back',
                'timed_out', 'expired'}
local STATES = {pending = true, queued = true, running = true,
                completed = true, failed = true, cancelled = true}

local function prefix_of(keys)
  local key = keys[1]
  if #keys ~= 1 or not key or key:sub(-5) ~= ':meta' then
    error('KEYS must be the meta key of a partition')
  end
  return key:sub(1, -5)
end

local function number(text, name)
  local value = tonumber(text)
  if not value or value < 0 or value ~= value then error('not a number: ' .. name) end
  return value
end

local function whole(value)
  return string.format('%.0f', value)
end

-- Of a stream entry `<number>-0`; 0 where there is none.
local function number_of_entry(entry)
  return entry and tonumber(entry[1]:match('^%d+')) or 0
end

-- How much of a job's log is kept.
local function kept_bytes(key)
  if redis.call('TYPE', key).ok ~= 'stream' then return 0 end
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if not newest then return 0 end
  local before = number_of_entry(oldest)
  for i = 1, #oldest[2], 2 do
    if oldest[2][i] == 'bytes' then before = before - #oldest[2][i + 1] end
  end
  return number_of_entry(newest) - before
end

-- Of all jobs, as meta has it; people may have taken one away.
local function count_log_bytes(prefix, change)
  local total = tonumber(redis.call('HGET', prefix .. 'meta', 'log_bytes')) or 0
  if change ~= 0 then
    total = math.max(0, total + change)
    redis.call('HSET', prefix .. 'meta', 'log_bytes', whole(total))
  end
  return total
end

-- Of jobs that go.
local function remove_logs(prefix, ids)
  local keys = {}
  for i, id in ipairs(ids) do keys[i] = prefix .. 'log:' .. id end
  if #keys == 0 or redis.call('EXISTS', unpack(keys)) == 0 then return end
  local bytes = 0
  for _, key in ipairs(keys) do bytes = bytes + kept_bytes(key) end
  redis.call('UNLINK', unpack(keys))
  count_log_bytes(prefix, -bytes)
end

-- Someone else's key, or one of a wrong type, at a name of ours: out of the way, not lost.
local function set_aside(prefix, name, foreign)
  redis.call('RENAME', prefix .. name, prefix .. 'foreign:' .. name)
  foreign.count = foreign.count + 1
end

-- A write that meets a wrong type changes nothing: the key is set aside and the write repeated.
local function write(prefix, foreign, command, name, ...)
  local reply = redis.pcall(command, prefix .. name, ...)
  if type(reply) == 'table' and reply.err then
    if not reply.err:find('WRONGTYPE') then error(reply.err) end
    set_aside(prefix, name, foreign)
    reply = redis.call(command, prefix .. name, ...)
  end
  return reply
end

-- Makes sure that `meta` can be read and written.
local function read_meta(prefix)
  local meta = redis.pcall('HMGET', prefix .. 'meta', 'epoch', 'owner', 'last', 'checkpoint')
  if meta.err then return nil, true end
  if not meta[1] then return nil, false end
  return {epoch = tonumber(meta[1]), owner = meta[2], last = tonumber(meta[3]) or 0,
          checkpoint = tonumber(meta[4]) or 0}, false
end

-- Why this owner may not write, or nil.
local function refusal(meta, epoch, owner)
  if not meta or meta.epoch < epoch then return {'rolled_back'} end
  if meta.epoch > epoch or meta.owner ~= owner then return {'fenced', whole(meta.epoch)} end
  return nil
end

-------------------------------------------------------------------------------- take_over

local function take_over(keys, args)
  local prefix = prefix_of(keys)
  if #args ~= 4 then error('take_over takes epoch, owner, base, replaced epoch') end
  local epoch, owner, base = number(args[1], 'epoch'), args[2], number(args[3], 'base')
  local replaced_epoch = number(args[4], 'replaced epoch')
  local meta, is_foreign = read_meta(prefix)
  local is_newer = meta and replaced_epoch > 0 and meta.epoch > replaced_epoch
  local taken = not meta or (epoch > meta.epoch and not (is_newer and meta.owner ~= owner))
  if taken then
    local foreign = {count = 0}
    if is_foreign then set_aside(prefix, 'meta', foreign) end
    local last = meta and meta.last or 0
    if not meta then
      local newest = write(prefix, foreign, 'XREVRANGE', 'log', '+', '-', 'COUNT', 1)
      if newest[1] then last = tonumber(newest[1][1]:match('^%d+')) end
    end
    if base > last then last = base end
    redis.call('HSET', prefix .. 'meta', 'layout', LAYOUT, 'epoch', whole(epoch), 'owner', owner,
               'last', whole(last))
    redis.call('HSETNX', prefix .. 'meta', 'checkpoint', '0')
    -- Those of the owner before; who is alive is heard again within a heartbeat.
    if redis.call('TYPE', prefix .. 'nodes').ok == 'hash' then redis.call('DEL', prefix .. 'nodes') end
  end
  local now = redis.call('HMGET', prefix .. 'meta', 'layout', 'epoch', 'owner', 'last', 'checkpoint')
  return {taken and '1' or '0', now[1] or '0', now[2] or '0', now[3] or '', now[4] or '0',
          now[5] or '0'}
end

-------------------------------------------------------------------------------- commit

local function commit(keys, args)
  local prefix = prefix_of(keys)
  if #args ~= 4 then error('commit takes epoch, owner, n, blob') end
  local epoch, n = number(args[1], 'epoch'), number(args[3], 'n')
  local meta = read_meta(prefix)
  local refused = refusal(meta, epoch, args[2])
  if refused then return refused end
  if n <= meta.last then return {'already'} end
  if n > meta.last + 1 then return {'gap', whole(meta.last)} end
  local id = whole(n) .. '-0'
  local reply = redis.pcall('XADD', prefix .. 'log', id, 'b', args[4])
  if type(reply) == 'table' and reply.err then
    -- A foreign key, or a stream with numbers that we never gave. Anything else changes nothing.
    if not reply.err:find('WRONGTYPE') and not reply.err:find('equal or smaller') and
       not reply.err:find('exhausted') then
      error(reply.err)
    end
    set_aside(prefix, 'log', {count = 0})
    redis.call('XADD', prefix .. 'log', id, 'b', args[4])
  end
  redis.call('HSET', prefix .. 'meta', 'last', whole(n))
  return {'ok'}
end

-------------------------------------------------------------------------------- project

-- Reads a msgpack array by its items in order; an item of another type is an error.
local function reader_of(items, what)
  if type(items) ~= 'table' then error('project: not a list: ' .. what) end
  local at = 0
  local reader = {}
  local function item(kind, name)
    at = at + 1
    local value = items[at]
    if type(value) ~= kind then error('project: ' .. name .. ' is no ' .. kind) end
    return value
  end
  function reader.text(name) return item('string', name) end
  function reader.flag(name) return item('boolean', name) end
  function reader.number(name)
    local value = item('number', name)
    if value < 0 or value ~= math.floor(value) then error('project: not a count: ' .. name) end
    return value
  end
  function reader.list(name) return item('table', name) end
  function reader.all(kind, name)
    local list = item('table', name)
    for i = 1, #list do
      if type(list[i]) ~= kind then error('project: an item of ' .. name .. ' is no ' .. kind) end
    end
    return list
  end
  function reader.is_next(kind) return type(items[at + 1]) == kind end
  function reader.finish()
    if at ~= #items then error('project: too many items: ' .. what) end
  end
  return reader
end

-- The path of every job: without a reader.
local function check_row(row)
  local fields = row[7]
  if #row ~= 7 or type(row[1]) ~= 'string' or type(row[2]) ~= 'number' or not STATES[row[3]] or
     type(row[4]) ~= 'string' or type(row[5]) ~= 'string' or not tonumber(row[5]) or
     type(row[6]) ~= 'boolean' or type(fields) ~= 'table' then
    error('project: a row is id, batch, state, queue, score, keeps payload, fields')
  end
  if #fields == 0 or #fields % 2 ~= 0 then error('project: fields come in pairs') end
  for i = 1, #fields do
    if type(fields[i]) ~= 'string' then error('project: fields are strings') end
  end
end

local function read_queue(item)
  local reader = reader_of(item, 'queue')
  local queue = {name = reader.text('name'), paused = reader.text('paused'), totals = {}}
  for i = 1, #TOTALS do queue.totals[i] = reader.number(TOTALS[i]) end
  reader.finish()
  return queue
end

local function read_last(items)
  local reader = reader_of(items, 'last part')
  local last = {checkpoint = reader.number('checkpoint'),
                next_sequence = reader.number('next_sequence'),
                lag_ms = reader.number('lag_ms'), not_kept = reader.number('not_kept'),
                queues = {}}
  for i, queue in ipairs(reader.all('table', 'queues')) do last.queues[i] = read_queue(queue) end
  reader.finish()
  return last
end

local function read_project(args)
  if #args ~= 3 then error('project takes epoch, owner, document') end
  local reader = reader_of(cmsgpack.unpack(args[3]), 'document')
  local call = {epoch = number(args[1], 'epoch'), owner = args[2]}
  call.rows = reader.all('table', 'rows')
  for _, row in ipairs(call.rows) do check_row(row) end
  call.removed = reader.all('string', 'removed')
  call.retired = reader.all('string', 'retired')
  if #call.retired % 2 ~= 0 then error('project: retired jobs come in pairs') end
  call.nodes = reader.all('string', 'nodes')
  if #call.nodes % 2 ~= 0 then error('project: nodes come in pairs') end
  call.events = reader.all('string', 'events')
  call.ended_chunk, call.ended_blob = reader.number('ended_chunk'), reader.text('ended_blob')
  call.drop = reader.all('number', 'drop')
  call.trim = {queues = reader.all('string', 'trim'), before = reader.number('trim_before'),
               wall_ms = reader.number('wall_ms'), keep_ms = reader.number('keep_ms'),
               failed_keep_ms = reader.number('failed_keep_ms'),
               keep_count = reader.number('keep_count')}
  if reader.is_next('table') then
    call.last = read_last(reader.list('last'))
  else
    reader.flag('last')
  end
  reader.finish()
  return call
end

local function index_of(state, queue)
  if state == 'pending' or state == 'running' then return state end
  return state .. ':' .. queue
end

-- The old state, queue and batch of a job; nil where there is none. A key that is no job of ours is
-- set aside.
local function read_old(prefix, id, foreign)
  local name = 'job:' .. id
  local old = redis.pcall('HMGET', prefix .. name, 'state', 'queue', 'batch')
  if not old.err and old[1] and old[2] and tonumber(old[3]) then
    return {state = old[1], queue = old[2], batch = tonumber(old[3])}
  end
  if old.err or redis.call('EXISTS', prefix .. name) == 1 then set_aside(prefix, name, foreign) end
  return nil
end

-- Index entries to take out and to put in, by index: each index is one command a call, not one a job.
local function new_moves() return {out = {}, into = {}} end

local function put(lists, index, item, second)
  local list = lists[index]
  if not list then
    list = {}
    lists[index] = list
  end
  list[#list + 1] = item
  list[#list + 1] = second
end

local function write_moves(prefix, moves, foreign)
  for index, ids in pairs(moves.out) do write(prefix, foreign, 'ZREM', index, unpack(ids)) end
  for index, entries in pairs(moves.into) do
    write(prefix, foreign, 'ZADD', index, unpack(entries))
  end
end

-- Whether any of the rows' keys exists. A call that only makes new jobs need not look at each.
local function is_any_known(prefix, rows)
  local keys = {}
  for i, row in ipairs(rows) do keys[i] = prefix .. 'job:' .. row[1] end
  return #keys > 0 and redis.call('EXISTS', unpack(keys)) > 0
end

-- Takes an older hash away; the payload that is to be kept comes into `fields`.
local function replace_old(key, old, index, row, moves)
  local before = index_of(old.state, old.queue)
  if before ~= index then put(moves.out, before, row[1]) end
  local payload = row[6] and redis.call('HGET', key, 'payload')
  redis.call('DEL', key)
  if payload then
    local fields = row[7]
    fields[#fields + 1] = 'payload'
    fields[#fields + 1] = payload
  end
end

-- A row that is not newer than what stands is of a call that came late, on a connection given up for lost. So is one
-- of a job that is not there any more, up to the checkpoint: retention or a person has removed it.
local function write_rows(prefix, meta, rows, moves, foreign)
  local may_be_known = is_any_known(prefix, rows)
  for _, row in ipairs(rows) do
    local id, batch = row[1], row[2]
    local old = may_be_known and read_old(prefix, id, foreign)
    local newest = old and old.batch or meta.checkpoint + 1
    if newest <= batch then
      local key, index = prefix .. 'job:' .. id, index_of(row[3], row[4])
      if old then replace_old(key, old, index, row, moves) end
      redis.call('HSET', key, unpack(row[7]))
      put(moves.into, index, row[5], id)
    end
  end
end

local function remove_jobs(prefix, ids, moves, foreign)
  remove_logs(prefix, ids)
  for _, id in ipairs(ids) do
    local old = read_old(prefix, id, foreign)
    if old then
      redis.call('DEL', prefix .. 'job:' .. id)
      put(moves.out, index_of(old.state, old.queue), id)
    end
  end
end

-- Ended jobs whose records came with this call; one that has changed since stays.
local function retire_jobs(prefix, retired, moves, foreign)
  local removed, ids = 0, {}
  for i = 1, #retired, 2 do
    local id = retired[i]
    local old = read_old(prefix, id, foreign)
    if old and old.batch == tonumber(retired[i + 1]) then
      redis.call('DEL', prefix .. 'job:' .. id)
      ids[#ids + 1] = id
      put(moves.out, index_of(old.state, old.queue), id)
      removed = removed + 1
    end
  end
  remove_logs(prefix, ids)
  return removed
end

-- Whether a job ended so long ago that a record of it has to be written before it goes. Its hash is
-- read as people may have left it.
local function is_to_retire(id, batch, state, finished, wall_ms)
  local n, finished_ms = tonumber(batch), tonumber(finished)
  return n and n >= 0 and whole(n) == batch and finished_ms and whole(finished_ms) == finished and
         finished_ms > 0 and finished_ms < wall_ms - FRESH_MS and #id <= ID_BYTES_MAX and
         (state == 'completed' or state == 'failed' or state == 'cancelled')
end

-- The oldest of an index: too old, or more than keep_count that may be counted (a score in the
-- future is a job whose result was asked to be kept). What ended long ago is told, not removed.
local function trim_index(prefix, index, keep_ms, trim, foreign, reply)
  local counted = write(prefix, foreign, 'ZCOUNT', index, '-inf', whole(trim.wall_ms))
  if counted == 0 then return 0 end
  local aged = redis.call('ZCOUNT', prefix .. index, '-inf', whole(trim.wall_ms - keep_ms))
  local doomed = math.min(TRIM_MAX, math.max(aged, counted - trim.keep_count))
  if doomed <= 0 then return 0 end
  local ids, keys = {}, {}
  for _, id in ipairs(redis.call('ZRANGE', prefix .. index, 0, doomed - 1)) do
    local key = prefix .. 'job:' .. id
    local job = redis.pcall('HMGET', key, 'batch', 'state', 'finished_ms', 'content_hash')
    if job.err then
      set_aside(prefix, 'job:' .. id, foreign)
      job = {}
    end
    if (tonumber(job[1]) or 0) <= trim.before then
      if is_to_retire(id, job[1], job[2], job[3], trim.wall_ms) then
        if #reply >= 4 + 5 * RETIRE_MAX then break end
        for _, text in ipairs({id, job[1], job[2], job[4] or '0', job[3]}) do
          reply[#reply + 1] = text
        end
      else
        ids[#ids + 1], keys[#keys + 1] = id, key
      end
    end
  end
  if #ids == 0 then return 0 end
  redis.call('DEL', unpack(keys))
  remove_logs(prefix, ids)
  return redis.call('ZREM', prefix .. index, unpack(ids))
end

local function trim_queues(prefix, trim, foreign, reply)
  local removed = 0
  local function trim_state(index, keep_ms)
    removed = removed + trim_index(prefix, index, keep_ms, trim, foreign, reply)
  end
  for _, queue in ipairs(trim.queues) do
    trim_state('completed:' .. queue, trim.keep_ms)
    trim_state('failed:' .. queue, trim.failed_keep_ms)
    trim_state('cancelled:' .. queue, trim.keep_ms)
  end
  return removed
end

-- Totals are absolute per queue; the totals of all queues grow by the difference.
local function write_queue(prefix, queue, foreign)
  write(prefix, foreign, 'HSET', 'queues', queue.name, queue.paused)
  for i, total in ipairs(TOTALS) do
    local field = queue.name .. ':' .. total
    local before = tonumber(redis.call('HGET', prefix .. 'stats', field)) or 0
    if before ~= queue.totals[i] then
      redis.call('HSET', prefix .. 'stats', field, whole(queue.totals[i]))
      redis.call('HINCRBY', prefix .. 'stats', total, whole(queue.totals[i] - before))
    end
  end
end

local function write_last(prefix, meta, last, foreign)
  write(prefix, foreign, 'HINCRBY', 'stats', 'finished_not_kept',
        last.checkpoint > meta.checkpoint and whole(last.not_kept) or '0')
  if last.checkpoint >= meta.checkpoint then  -- else of a call that came late
    for _, queue in ipairs(last.queues) do write_queue(prefix, queue, foreign) end
  end
  local sequence = tonumber(redis.call('HGET', prefix .. 'meta', 'next_sequence')) or 1
  meta.checkpoint = math.max(meta.checkpoint, last.checkpoint)
  redis.call('HSET', prefix .. 'meta', 'checkpoint', whole(meta.checkpoint), 'view_lag_ms',
             whole(last.lag_ms), 'next_sequence', whole(math.max(sequence, last.next_sequence)))
  local trimmed = tonumber(redis.call('HGET', prefix .. 'meta', 'log_trimmed')) or 0
  if meta.checkpoint >= trimmed + LOG_STEP then
    redis.call('XTRIM', prefix .. 'log', 'MINID', whole(meta.checkpoint + 1) .. '-0')
    redis.call('HSET', prefix .. 'meta', 'log_trimmed', whole(meta.checkpoint))
  end
end

local function project(keys, args)
  local prefix = prefix_of(keys)
  local call = read_project(args)
  local meta = read_meta(prefix)
  local refused = refusal(meta, call.epoch, call.owner)
  if refused then return refused end
  local foreign = {count = 0}
  local moves = new_moves()
  local removed = retire_jobs(prefix, call.retired, moves, foreign)
  write_rows(prefix, meta, call.rows, moves, foreign)
  remove_jobs(prefix, call.removed, moves, foreign)
  write_moves(prefix, moves, foreign)
  for i = 1, #call.nodes, 2 do
    if call.nodes[i + 1] == '' then
      write(prefix, foreign, 'HDEL', 'nodes', call.nodes[i])
    else
      write(prefix, foreign, 'HSET', 'nodes', call.nodes[i], call.nodes[i + 1])
    end
  end
  for _, event in ipairs(call.events) do
    write(prefix, foreign, 'XADD', 'events', '*', 'event', event)
  end
  if #call.events > 0 then redis.call('XTRIM', prefix .. 'events', 'MAXLEN', EVENTS_MAX) end
  if call.ended_blob ~= '' then
    local chunk = whole(call.ended_chunk)
    write(prefix, foreign, 'APPEND', 'ended:' .. chunk, call.ended_blob)
    redis.call('HSETNX', prefix .. 'meta', 'ended_first', chunk)
    redis.call('HSET', prefix .. 'meta', 'ended_next', whole(call.ended_chunk + 1))
  end
  for _, chunk in ipairs(call.drop) do
    redis.call('DEL', prefix .. 'ended:' .. whole(chunk))
    redis.call('HSET', prefix .. 'meta', 'ended_first', whole(chunk + 1))
  end
  local reply = {'ok', '', '', ''}
  removed = removed + trim_queues(prefix, call.trim, foreign, reply)
  if call.last then write_last(prefix, meta, call.last, foreign) end
  reply[2], reply[3], reply[4] = whole(meta.checkpoint), whole(removed), whole(foreign.count)
  return reply
end

-------------------------------------------------------------------------------- logs of jobs

-- A chunk is an entry `<how much the job ever wrote, with it>-0`: what was trimmed still counts.
local function log_end(prefix, name, foreign)
  return number_of_entry(write(prefix, foreign, 'XREVRANGE', name, '+', '-', 'COUNT', 1)[1])
end

-- A stream with numbers that we never gave is somebody else's. Returns the end, and by how much the log grew.
local function add_chunk(prefix, name, foreign, before, chunk)
  local last = before + #chunk[3]
  local is_full = last > LOG_KEPT or redis.call('XLEN', prefix .. name) >= LOG_CHUNKS_KEPT
  local kept = is_full and kept_bytes(prefix .. name) or 0
  local fields = {'attempt', chunk[1], 'at_ms', chunk[2], 'bytes', chunk[3]}
  local reply = redis.pcall('XADD', prefix .. name, whole(last) .. '-0', unpack(fields))
  if type(reply) == 'table' and reply.err then
    set_aside(prefix, name, foreign)
    redis.call('XADD', prefix .. name, whole(#chunk[3]) .. '-0', unpack(fields))
    return #chunk[3], #chunk[3]
  end
  if not is_full then return last, #chunk[3] end
  if last > LOG_KEPT then
    redis.call('XTRIM', prefix .. name, 'MINID', whole(last - LOG_KEPT + LOG_CHUNK_MAX + 1))
  end
  redis.call('XTRIM', prefix .. name, 'MAXLEN', LOG_CHUNKS_KEPT)
  return last, kept_bytes(prefix .. name) - kept
end

local function logs_add(keys, args)
  local prefix = prefix_of(keys)
  if #args < 7 or #args % 4 ~= 3 then
    error('logs_add takes epoch, owner, bytes, and of each chunk job id, attempt, at_ms, bytes')
  end
  local epoch, bytes_max = number(args[1], 'epoch'), number(args[3], 'bytes')
  for i = 4, #args, 4 do
    number(args[i + 1], 'attempt')
    number(args[i + 2], 'at_ms')
    if #args[i + 3] == 0 or #args[i + 3] > LOG_CHUNK_MAX then error('not a chunk: bytes') end
  end
  local meta = read_meta(prefix)
  local refused = refusal(meta, epoch, args[2])
  if refused then return refused end
  local reply, foreign = {'ok'}, {count = 0}
  local before = count_log_bytes(prefix, 0)
  local total = before
  for i = 4, #args, 4 do
    local name, chunk = 'log:' .. args[i], {args[i + 1], args[i + 2], args[i + 3]}
    local last, grown = 0, 0
    if total + #chunk[3] <= bytes_max then
      last, grown = add_chunk(prefix, name, foreign, log_end(prefix, name, foreign), chunk)
    end
    total = total + grown
    reply[#reply + 1] = whole(last)
  end
  count_log_bytes(prefix, total - before)
  return reply
end

-- Of an entry as people may have left it: end, attempt, at_ms, bytes; nil where one is missing.
local function read_chunk(entry)
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  local last = tonumber(entry[1]:match('^%d+'))
  local is_ours = tonumber(fields.attempt) and tonumber(fields.at_ms) and fields.bytes and
                  #fields.bytes > 0 and #fields.bytes <= LOG_CHUNK_MAX and #fields.bytes <= last
  return is_ours and {whole(last), fields.attempt, fields.at_ms, fields.bytes} or nil
end

local function log_read(keys, args)
  local prefix = prefix_of(keys)
  if #args ~= 2 then error('log_read takes job id, from') end
  local key, from = prefix .. 'log:' .. args[1], number(args[2], 'from')
  if redis.call('TYPE', key).ok ~= 'stream' then return {'0'} end
  local size = number_of_entry(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1])
  local reply, bytes = {whole(size)}, 0
  local start = whole(from) .. '-0'
  while true do
    local page = redis.call('XRANGE', key, '(' .. start, '+', 'COUNT', 16)
    for _, entry in ipairs(page) do
      local chunk = read_chunk(entry)
      if chunk then
        bytes = bytes + #chunk[4]
        if bytes > LOG_PAGE or #reply > 4 * LOG_PAGE_CHUNKS then return reply end
        for _, text in ipairs(chunk) do reply[#reply + 1] = text end
      end
      start = entry[1]
    end
    if #page < 16 then return reply end
  end
end

-------------------------------------------------------------------------------- list

local function list_queues(prefix, state, queue)
  if state == 'pending' or state == 'running' then return {''} end
  if queue ~= '' then return {queue} end
  local names = redis.call('HKEYS', prefix .. 'queues')
  table.sort(names)
  return names
end

-- Whether a stands before b as Redis orders members: by their bytes, whatever the locale says.
local function is_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- The rank of the first entry behind (score, id), whether or not that one still stands there: a job
-- that has moved on since takes nobody else's place with it.
local function rank_behind(key, score, id)
  local from = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local to = redis.call('ZCOUNT', key, '-inf', score)
  while from < to do
    local middle = math.floor((from + to) / 2)
    if is_before(id, redis.call('ZRANGE', key, middle, middle)[1]) then
      to = middle
    else
      from = middle + 1
    end
  end
  return from
end

local function list(keys, args)
  local prefix = prefix_of(keys)
  if #args ~= 6 or not STATES[args[1]] then
    error('list takes state, queue, cursor queue, score, id, limit')
  end
  local state, limit = args[1], number(args[6], 'limit')
  local meta = read_meta(prefix)
  local reply = {whole(meta and meta.checkpoint or 0), '', '', ''}
  local last
  for _, name in ipairs(list_queues(prefix, state, args[2])) do
    if name >= args[3] then
      local key = prefix .. index_of(state, name)
      local start = 0
      if args[5] ~= '' and name == args[3] then
        start = rank_behind(key, args[4], args[5])
      end
      local left = limit - (#reply - 4)
      local page = redis.call('ZRANGE', key, start, start + left, 'WITHSCORES')
      for i = 1, #page, 2 do
        if #reply - 4 == limit then
          reply[2], reply[3], reply[4] = last[1], last[2], last[3]
          return reply
        end
        reply[#reply + 1] = page[i]
        last = {name, page[i + 1], page[i]}
      end
    end
  end
  return reply
end

redis.register_function{function_name = 'sluice_take_over', callback = take_over, flags = {'allow-oom'}}
redis.register_function{function_name = 'sluice_commit', callback = commit, flags = {'allow-oom'}}
redis.register_function{function_name = 'sluice_project', callback = project, flags = {'allow-oom'}}
redis.register_function{function_name = 'sluice_logs_add', callback = logs_add}
redis.register_function{function_name = 'sluice_log_read', callback = log_read, flags = {'no-writes'}}
redis.register_function{function_name = 'sluice_list', callback = list, flags = {'no-writes'}}
