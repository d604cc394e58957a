"""What every script of the Redis store begins with: keys, leases, and who holds a batch (keys: see the package).

Time is Redis's, so that the clocks of the machines do not matter; callers
send the shift between the time they were given and their own clock, which is
0 outside of tests. Nothing here is newer than Redis 6.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1

GROUP = "senders"
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
COMMON = f"""
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

-- Who holds an entry: a consumer's name, or nil; and how often its delivery was begun, as far as anybody said so.
local function holder(stream, entry)
  local pending = redis.call('XPENDING', stream, GROUP, entry, entry, 1)
  if pending[1] then return pending[1][2], pending[1][4] end
end

-- A new entry is counted as begun; one that changes hands keeps its count.
local function give(stream, entry, consumer)
  redis.call('XCLAIM', stream, GROUP, consumer, '0', entry, 'FORCE', 'JUSTID')
end

local function count_as(stream, entry, begun)
  redis.call('XCLAIM', stream, GROUP, me, '0', entry, 'RETRYCOUNT', begun, 'JUSTID')
end

-- Whether a lease that was not renewed counts as expired. A server whose clock was set forward would end all leases at
-- once, and one whose clock was set back would let those of the dead last: where nobody was here for half a lease by
-- that clock, everybody has as long to renew first, and no lease is far ahead.
local function leases_count()
  local at = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local seen = tonumber(redis.call('HGET', CLAIMS, 'seen') or at)
  redis.call('HSET', CLAIMS, 'seen', string.format('%.0f', at))
  if math.abs(at - seen) > lease / 2 then
    redis.call('HSET', CLAIMS, 'grace', string.format('%.0f', at + lease / 2))
    for _, consumer in ipairs(redis.call('ZRANGEBYSCORE', OWNERS, string.format('%.0f', now + 2 * lease), '+inf')) do
      redis.call('ZADD', OWNERS, string.format('%.0f', now + lease), consumer)
    end
  end
  local grace = tonumber(redis.call('HGET', CLAIMS, 'grace') or at)
  return at >= grace or grace - at > lease
end

-- Consumers whose lease has ended: those that gave it up and, where an expired lease counts, those that are gone.
local function lost_consumers(stream, expired)
  local lost = redis.call('ZRANGEBYSCORE', OWNERS, '-inf', expired and string.format('(%.0f', now) or '0')
  if expired and redis.call('EXISTS', stream) == 1 then
    -- Consumers without any lease: a Redis that evicts keys has lost the list. They are counted first, since a look at
    -- each of them by each of them is what a large fleet can't afford.
    ensure_group(stream)
    local known = redis.call('ZCARD', OWNERS)
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      if group[2] == GROUP and group[4] > known then
        for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', stream, GROUP)) do
          if not redis.call('ZSCORE', OWNERS, about[2]) then lost[#lost + 1] = about[2] end
        end
      end
    end
  end
  return lost
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

local function add(at, max_bytes, begun)
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
  if not begun then count_as(stream, entry, 0) end
  return 'mine', 0
end
"""
