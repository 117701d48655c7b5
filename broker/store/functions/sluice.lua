#!lua name=sluice
-- The state of one partition, written by four functions. KEYS.md is the specification.
--
-- Every function: KEYS[1] = <prefix>meta; the other keys have the same prefix and so the same hash
-- slot. Everything is checked before the first write. Replies are flat arrays of strings.
--
--   take_over  ARGV: epoch, owner, base
--              -> {"1" taken | "0" refused, layout, epoch, owner, last, checkpoint}
--   commit     ARGV: epoch, owner, n, blob
--              -> {"ok"} | {"already"} | {"gap", last} | {"fenced", epoch} | {"rolled_back"}
--   project    ARGV: epoch, owner, rows, removed, nodes, events, ended, drop, last part; each list
--              is its count and its items (read_project below)
--              -> {"ok", checkpoint, removed, renamed foreign keys} | {"fenced", epoch}
--                 | {"rolled_back"}
--   list       ARGV: state, queue, cursor queue, score, id, limit (reads only)
--              -> {checkpoint, next queue, next score, next id, id...}; no next id = no more

local LAYOUT = '1'
local LOG_STEP = 256
local EVENTS_MAX = 10000
local TRIM_MAX = 200
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
  if #args ~= 3 then error('take_over takes epoch, owner, base') end
  local epoch, owner, base = number(args[1], 'epoch'), args[2], number(args[3], 'base')
  local meta, is_foreign = read_meta(prefix)
  local taken = not meta or epoch > meta.epoch
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
    -- A foreign key, or a stream with numbers that we never gave.
    set_aside(prefix, 'log', {count = 0})
    redis.call('XADD', prefix .. 'log', id, 'b', args[4])
  end
  redis.call('HSET', prefix .. 'meta', 'last', whole(n))
  return {'ok'}
end

-------------------------------------------------------------------------------- project

local function reader_of(args)
  local at = 0
  local reader = {}
  function reader.text()
    at = at + 1
    if not args[at] then error('project: too few arguments') end
    return args[at]
  end
  function reader.number(name) return number(reader.text(), name) end
  function reader.list(read)
    local items = {}
    for i = 1, reader.number('count') do items[i] = read() end
    return items
  end
  function reader.finish()
    if at ~= #args then error('project: too many arguments') end
  end
  return reader
end

local function read_row(reader)
  local row = {id = reader.text(), batch = reader.number('batch'), state = reader.text(),
               queue = reader.text(), score = reader.text(), keeps_payload = reader.text() == '1'}
  if not STATES[row.state] then error('project: no such state: ' .. row.state) end
  number(row.score, 'score')
  row.fields = reader.list(reader.text)
  if #row.fields == 0 or #row.fields % 2 ~= 0 then error('project: fields come in pairs') end
  return row
end

local function read_last(reader)
  local last = {checkpoint = reader.number('checkpoint'),
                next_sequence = reader.number('next_sequence'), wall_ms = reader.number('wall_ms'),
                lag_ms = reader.number('lag_ms'), not_kept = reader.number('not_kept'),
                trim_before = reader.number('trim_before'), keep_ms = reader.number('keep_ms'),
                failed_keep_ms = reader.number('failed_keep_ms'),
                keep_count = reader.number('keep_count')}
  last.queues = reader.list(function()
    local queue = {name = reader.text(), paused = reader.text(), totals = {}}
    for i = 1, #TOTALS do queue.totals[i] = reader.number('total') end
    return queue
  end)
  last.trim = reader.list(reader.text)
  return last
end

local function read_project(args)
  local reader = reader_of(args)
  local call = {epoch = reader.number('epoch'), owner = reader.text()}
  call.rows = reader.list(function() return read_row(reader) end)
  call.removed = reader.list(reader.text)
  call.nodes = reader.list(function() return {reader.text(), reader.text()} end)
  call.events = reader.list(reader.text)
  call.ended_chunk, call.ended_blob = reader.text(), reader.text()
  call.drop = reader.list(reader.text)
  if reader.text() == '1' then call.last = read_last(reader) end
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

local function write_row(prefix, row, foreign)
  local key = prefix .. 'job:' .. row.id
  local old = read_old(prefix, row.id, foreign)
  local index = index_of(row.state, row.queue)
  if old then
    if old.batch > row.batch then return end
    local before = index_of(old.state, old.queue)
    if before ~= index then write(prefix, foreign, 'ZREM', before, row.id) end
    local payload = row.keeps_payload and redis.call('HGET', key, 'payload')
    redis.call('DEL', key)
    if payload then
      row.fields[#row.fields + 1] = 'payload'
      row.fields[#row.fields + 1] = payload
    end
  end
  redis.call('HSET', key, unpack(row.fields))
  write(prefix, foreign, 'ZADD', index, row.score, row.id)
end

local function remove_job(prefix, id, foreign)
  local old = read_old(prefix, id, foreign)
  if not old then return end
  redis.call('DEL', prefix .. 'job:' .. id)
  write(prefix, foreign, 'ZREM', index_of(old.state, old.queue), id)
end

-- The oldest of an index: too old, or more than keep_count that may be counted (a score in the
-- future is a job whose result was asked to be kept).
local function trim_index(prefix, index, keep_ms, last, foreign)
  local counted = write(prefix, foreign, 'ZCOUNT', index, '-inf', whole(last.wall_ms))
  local aged = redis.call('ZCOUNT', prefix .. index, '-inf', string.format('%.0f', last.wall_ms - keep_ms))
  local doomed = math.min(TRIM_MAX, math.max(aged, counted - last.keep_count))
  if doomed <= 0 then return 0 end
  local removed = 0
  for _, id in ipairs(redis.call('ZRANGE', prefix .. index, 0, doomed - 1)) do
    local old = read_old(prefix, id, foreign)
    if not old or old.batch <= last.trim_before then
      redis.call('DEL', prefix .. 'job:' .. id)
      redis.call('ZREM', prefix .. index, id)
      removed = removed + 1
    end
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
  local removed = 0
  write(prefix, foreign, 'HINCRBY', 'stats', 'finished_not_kept',
        last.checkpoint > meta.checkpoint and whole(last.not_kept) or '0')
  for _, queue in ipairs(last.queues) do write_queue(prefix, queue, foreign) end
  for _, queue in ipairs(last.trim) do
    removed = removed + trim_index(prefix, 'completed:' .. queue, last.keep_ms, last, foreign)
    removed = removed + trim_index(prefix, 'failed:' .. queue, last.failed_keep_ms, last, foreign)
    removed = removed + trim_index(prefix, 'cancelled:' .. queue, last.keep_ms, last, foreign)
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
  return removed
end

local function project(keys, args)
  local prefix = prefix_of(keys)
  local call = read_project(args)
  local meta = read_meta(prefix)
  local refused = refusal(meta, call.epoch, call.owner)
  if refused then return refused end
  local foreign = {count = 0}
  for _, row in ipairs(call.rows) do write_row(prefix, row, foreign) end
  for _, id in ipairs(call.removed) do remove_job(prefix, id, foreign) end
  for _, node in ipairs(call.nodes) do
    if node[2] == '' then
      write(prefix, foreign, 'HDEL', 'nodes', node[1])
    else
      write(prefix, foreign, 'HSET', 'nodes', node[1], node[2])
    end
  end
  for _, event in ipairs(call.events) do
    write(prefix, foreign, 'XADD', 'events', 'MAXLEN', '~', EVENTS_MAX, '*', 'event', event)
  end
  if call.ended_blob ~= '' then
    write(prefix, foreign, 'APPEND', 'ended:' .. call.ended_chunk, call.ended_blob)
    local first = redis.call('HGET', prefix .. 'meta', 'ended_first')
    if not first then redis.call('HSET', prefix .. 'meta', 'ended_first', call.ended_chunk) end
    redis.call('HSET', prefix .. 'meta', 'ended_next', whole(tonumber(call.ended_chunk) + 1))
  end
  for _, chunk in ipairs(call.drop) do
    redis.call('DEL', prefix .. 'ended:' .. chunk)
    redis.call('HSET', prefix .. 'meta', 'ended_first', whole(tonumber(chunk) + 1))
  end
  local removed = call.last and write_last(prefix, meta, call.last, foreign) or 0
  return {'ok', whole(meta.checkpoint), whole(removed), whole(foreign.count)}
end

-------------------------------------------------------------------------------- list

local function list_queues(prefix, state, queue)
  if state == 'pending' or state == 'running' then return {''} end
  if queue ~= '' then return {queue} end
  local names = redis.call('HKEYS', prefix .. 'queues')
  table.sort(names)
  return names
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
        local rank = redis.call('ZRANK', key, args[5])
        start = rank and rank + 1 or redis.call('ZCOUNT', key, '-inf', '(' .. args[4])
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
redis.register_function{function_name = 'sluice_list', callback = list, flags = {'no-writes'}}
