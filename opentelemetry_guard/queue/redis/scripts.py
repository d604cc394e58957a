"""The Lua scripts of the Redis store: each is one step that happens wholly or not at all (keys: see the package).

Time is Redis's, so that the clocks of the machines do not matter; callers
send the shift between the time they were given and their own clock, which is
0 outside of tests. Nothing here is newer than Redis 6.0. Repeating any call
changes nothing: an answer may be lost on its way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1

GROUP = "senders"
DONE_KEPT = 100_000
"""Batch ids that are remembered as done, at most."""
DONE_SECONDS = 7 * 24 * 3600
"""How long a batch id is remembered as done, in seconds: longer than a machine is away and comes back with its disk."""
CLAIM_BYTES = 1024 * 1024
"""Bytes of several batches that one claim returns at most."""
NOBODY = "-"
"""The consumer that holds what was given back; it never has a lease."""


@dataclass(frozen=True, slots=True)
class Script:
    """The text of a script, and the hash that Redis knows it by."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        # The hash is Redis's name for the text and protects nothing
        object.__setattr__(self, "sha", sha1(self.text.encode(), usedforsecurity=False).hexdigest())


# ARGV begins with the consumer, the shift of its clock and its lease time, both in milliseconds.
_COMMON = f"""
local KINDS, STREAMS = {{}}, {{}}
for at = 1, #KEYS - 6 do KINDS[at] = string.match(KEYS[at], '[^:]+$') end
for at, kind in ipairs(KINDS) do STREAMS[kind] = KEYS[at] end
local INDEX, OWNERS, DONE, BYTES, EPOCH, CLAIMS = unpack(KEYS, #KEYS - 5)
local GROUP, NOBODY = '{GROUP}', '{NOBODY}'
local me, shift, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + shift

-- The group goes with its stream when somebody empties Redis.
local function ensure_group(stream)
  if redis.call('EXISTS', stream) == 0 or #redis.call('XINFO', 'GROUPS', stream) == 0 then
    redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
  end
end

-- What the server says of itself, '' where the user may not ask.
local function about(what)
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, what .. ':(%w+)') or ''
end

local function lease_left(consumer)
  local ends = redis.call('ZSCORE', OWNERS, consumer)
  return ends and tonumber(ends) - now or -1
end

-- Renews the caller's lease, and returns 1 if it had run out: somebody may have taken what was the caller's. Whoever
-- renews has to tell, or the caller would never know. Only RELEASE shortens a lease.
local function renew()
  local lapsed = lease_left(me) < 0 and 1 or 0
  if lease_left(me) < lease then
    redis.call('ZADD', OWNERS, string.format('%.0f', now + lease), me)
  end
  return lapsed
end

-- A Redis that is used as a cache drops keys one by one: what the index and the bytes were is in the streams, and
-- whoever holds something has a lease until it turns out that it does not renew it.
local function mend()
  local stored = 0
  for _, stream in pairs(STREAMS) do stored = stored + redis.call('XLEN', stream) end
  if stored ~= redis.call('HLEN', INDEX) or (stored > 0 and redis.call('EXISTS', BYTES) == 0) then
    redis.call('DEL', INDEX, BYTES)
    for kind, stream in pairs(STREAMS) do
      local from, found = '-', nil
      repeat
        found = redis.call('XRANGE', stream, from, '+', 'COUNT', 100)
        for _, each in ipairs(found) do
          local id, fields = each[1], each[2]
          if redis.call('HEXISTS', INDEX, fields[2]) == 1 then
            ensure_group(stream)
            redis.call('XACK', stream, GROUP, id)
            redis.call('XDEL', stream, id)
          else
            redis.call('HSET', INDEX, fields[2], kind .. ' ' .. id .. ' ' .. #fields[12])
            redis.call('INCRBY', BYTES, #fields[12])
          end
          local milliseconds, number = string.match(id, '^(%d+)-(%d+)$')
          from = milliseconds .. '-' .. string.format('%.0f', tonumber(number) + 1)
        end
      until #found < 100
    end
  end
  if stored > 0 and redis.call('EXISTS', OWNERS) == 0 then
    for _, stream in pairs(STREAMS) do
      if redis.call('EXISTS', stream) == 1 then
        ensure_group(stream)
        for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', stream, GROUP)) do
          local ends = about[2] == NOBODY and 0 or now + lease
          redis.call('ZADD', OWNERS, string.format('%.0f', ends), about[2])
        end
      end
    end
  end
end

local function forget_claims(consumer)
  for _, kind in ipairs(KINDS) do redis.call('HDEL', CLAIMS, consumer .. ' ' .. kind) end
end

-- Who holds an entry: a consumer's name, or nil.
local function holder(stream, entry)
  local pending = redis.call('XPENDING', stream, GROUP, entry, entry, 1)
  return pending[1] and pending[1][2]
end

local function give(stream, entry, consumer)
  redis.call('XCLAIM', stream, GROUP, consumer, '0', entry, 'FORCE', 'JUSTID')
end

local function find(batch)
  local place = redis.call('HGET', INDEX, batch)
  if not place then return nil end
  local kind, entry, size = string.match(place, '^(%S+) (%S+) (%S+)$')
  return STREAMS[kind], entry, tonumber(size)
end

-- Takes a batch out, in whatever state it is. The first write frees memory, which a full Redis allows, and after it
-- the rest of the script is allowed too.
local function remove(batch)
  local stream, entry, size = find(batch)
  if stream then
    redis.call('HDEL', INDEX, batch)
    ensure_group(stream)
    redis.call('XACK', stream, GROUP, entry)
    redis.call('XDEL', stream, entry)
    redis.call('DECRBY', BYTES, size)
  end
end

-- A write that needs no memory: a full Redis allows everything after it, and leases must not end because it is full.
local function allow_when_full()
  redis.call('HDEL', CLAIMS, '')
  mend()
end

-- The arbiter: a batch is the caller's if it holds it, or if whoever holds it has lost its lease.
local function take(batch)
  if redis.call('ZSCORE', DONE, batch) then return 'done', 0 end
  local stream, entry = find(batch)
  if not stream then return 'missing', 0 end
  ensure_group(stream)
  if #redis.call('XRANGE', stream, entry, entry, 'COUNT', 1) == 0 then
    remove(batch)
    return 'missing', 0
  end
  local owner = holder(stream, entry)
  if owner == me then return 'mine', 0 end
  if owner then
    local left = lease_left(owner)
    if left >= 0 then return 'theirs', left end
  end
  give(stream, entry, me)
  return 'mine', 0
end

local function add(at, max_bytes)
  mend()
  local batch, kind, body = ARGV[at], ARGV[at + 1], ARGV[at + 6]
  local standing, left = take(batch)
  if standing ~= 'missing' then return standing, left end
  if tonumber(redis.call('GET', BYTES) or '0') + #body > max_bytes then return 'full', 0 end
  local stream = STREAMS[kind]
  ensure_group(stream)
  local entry = redis.call('XADD', stream, '*', 'batch_id', batch, 'rows', ARGV[at + 2], 'encoding', ARGV[at + 3],
    'encrypted', ARGV[at + 4], 'created_at', ARGV[at + 5], 'body', body)
  redis.call('HSET', INDEX, batch, kind .. ' ' .. entry .. ' ' .. #body)
  redis.call('INCRBY', BYTES, #body)
  give(stream, entry, me)
  return 'mine', 0
end
"""

BATCH_ARGUMENTS = 7
"""batch_id, kind, rows, encoding, encrypted, created_at, body: how a batch is written in the arguments."""

PUT = Script(
    _COMMON
    + """
-- max_bytes, batch: adds a batch and leases it to the caller, or says who has it.
-- It renews the lease too, and returns whether that had run out, and the epoch, empty when there is none.
local standing, left = add(5, tonumber(ARGV[4]))
return {standing, left, renew(), redis.call('GET', EPOCH) or ''}
"""
)

SWAP = Script(
    _COMMON
    + f"""
-- max_bytes, number of old ids, number of those to remember as done, old ids (the remembered first), batches.
allow_when_full()
local old, remembered = tonumber(ARGV[5]), tonumber(ARGV[6])
for i = 1, old do
  remove(ARGV[6 + i])
  if i <= remembered then redis.call('ZADD', DONE, string.format('%.0f', now), ARGV[6 + i]) end
end
redis.call('ZREMRANGEBYSCORE', DONE, '-inf', string.format('(%.0f', now - {DONE_SECONDS * 1000}))
redis.call('ZREMRANGEBYRANK', DONE, 0, -{DONE_KEPT + 1})
local answers = {{}}
for at = 7 + old, #ARGV, {BATCH_ARGUMENTS} do
  answers[#answers + 1] = add(at, tonumber(ARGV[4]))
end
return answers
"""
)

CONFIRM = Script(
    _COMMON
    + """
-- batch ids: says of each what PUT would say of it.
allow_when_full()
local answers = {}
for i = 4, #ARGV do
  answers[#answers + 1] = take(ARGV[i])
end
return answers
"""
)

RENEW = Script(
    _COMMON
    + """
-- a random word: renews the lease; returns the epoch, whether the lease had run out, and the run of the server, which
-- is another one after a restart, perhaps with older data.
allow_when_full()
local lapsed = renew()
redis.call('SET', EPOCH, ARGV[4], 'NX')
return {redis.call('GET', EPOCH), lapsed, about('run_id')}
"""
)

RELEASE = Script(
    _COMMON
    + """
-- gives up the lease; a consumer that holds nothing is forgotten.
-- DELCONSUMER discards what a consumer holds, so it is for those that hold nothing.
allow_when_full()
local holds = false
for _, stream in pairs(STREAMS) do
  if redis.call('EXISTS', stream) == 1 then
    ensure_group(stream)
    holds = holds or #redis.call('XPENDING', stream, GROUP, '-', '+', 1, me) > 0
  end
end
if holds then
  redis.call('ZADD', OWNERS, 0, me)
else
  redis.call('ZREM', OWNERS, me)
  forget_claims(me)
  for _, stream in pairs(STREAMS) do
    if redis.call('EXISTS', stream) == 1 then redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, me) end
  end
end
return 1
"""
)

GIVE_BACK = Script(
    _COMMON
    + """
-- batch ids: what the caller holds of them, anybody may take at once.
allow_when_full()
redis.call('ZADD', OWNERS, 0, NOBODY)
for i = 4, #ARGV do
  local stream, entry = find(ARGV[i])
  if stream then ensure_group(stream) end
  if stream and holder(stream, entry) == me then give(stream, entry, NOBODY) end
end
return 1
"""
)

LIST = Script(
    _COMMON
    + """
-- most entries: tells of each stored batch its kind, batch_id, rows, bytes, created_at and whether it is encrypted.
local found = {}
for _, kind in ipairs(KINDS) do
  for _, each in ipairs(redis.call('XREVRANGE', STREAMS[kind], '+', '-', 'COUNT', ARGV[4])) do
    local fields = each[2]
    found[#found + 1] = {kind, fields[2], fields[4], tostring(#fields[12]), fields[10], fields[8]}
  end
end
return found
"""
)

FINISHED = Script(
    _COMMON
    + """
-- says which batches are stored, for a machine that remembers which of them it has delivered.
allow_when_full()
return redis.call('HKEYS', INDEX)
"""
)

COUNT = Script(
    _COMMON
    + """
-- counts the bytes of the stored batches, and then the batches of each kind.
mend()
local counts = {tonumber(redis.call('GET', BYTES) or '0')}
for _, kind in ipairs(KINDS) do counts[#counts + 1] = redis.call('XLEN', STREAMS[kind]) end
return counts
"""
)

CLAIM = Script(
    _COMMON
    + f"local SEVERAL_BYTES = {CLAIM_BYTES}"
    + """
-- request, kind, most entries, most bytes, whether expired leases count (else only those that were given up):
-- hands the caller batches of consumers whose lease has ended. One batch may take all the bytes; several are few.
-- The same request gets the same answer again, less what the caller no longer holds.
allow_when_full()
local request, kind, limit, room, expired = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
local stream, mark = STREAMS[kind], me .. ' ' .. ARGV[5]
local entries, taken, size = {}, {request}, 0
if redis.call('EXISTS', stream) == 0 then return entries end
ensure_group(stream)

local last = redis.call('HGET', CLAIMS, mark)
if last and string.sub(last, 1, #request + 1) == request .. ' ' then
  for entry in string.gmatch(string.sub(last, #request + 2), '%S+') do
    if holder(stream, entry) == me then
      local found = redis.call('XRANGE', stream, entry, entry, 'COUNT', 1)
      if found[1] then entries[#entries + 1] = found[1][2] end
    end
  end
  return entries
end

local function holds_nothing(consumer)
  for _, each in pairs(STREAMS) do
    if redis.call('EXISTS', each) == 1 then
      ensure_group(each)
      if #redis.call('XPENDING', each, GROUP, '-', '+', 1, consumer) > 0 then return false end
    end
  end
  return true
end

local lost = redis.call('ZRANGEBYSCORE', OWNERS, '-inf', expired and string.format('(%.0f', now) or '0')
if expired then
  -- Consumers without any lease: a Redis that evicts keys has lost the list.
  for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', stream, GROUP)) do
    if not redis.call('ZSCORE', OWNERS, about[2]) then lost[#lost + 1] = about[2] end
  end
end
for _, consumer in ipairs(lost) do
  if consumer ~= me and #entries < limit then
    for _, pending in ipairs(redis.call('XPENDING', stream, GROUP, '-', '+', limit - #entries, consumer)) do
      local entry = pending[1]
      local found = redis.call('XRANGE', stream, entry, entry, 'COUNT', 1)
      if not found[1] then
        redis.call('XACK', stream, GROUP, entry)
      else
        size = size + #found[1][2][12]
        if size > room or (#entries > 0 and size > SEVERAL_BYTES) then
          redis.call('HSET', CLAIMS, mark, table.concat(taken, ' '))
          return entries
        end
        give(stream, entry, me)
        taken[#taken + 1] = entry
        entries[#entries + 1] = found[1][2]
      end
    end
    if consumer ~= NOBODY and holds_nothing(consumer) then
      redis.call('ZREM', OWNERS, consumer)
      forget_claims(consumer)
      for _, each in pairs(STREAMS) do
        if redis.call('EXISTS', each) == 1 then redis.call('XGROUP', 'DELCONSUMER', each, GROUP, consumer) end
      end
    end
  end
end
if #entries > 0 then redis.call('HSET', CLAIMS, mark, table.concat(taken, ' ')) end
return entries
"""
)
