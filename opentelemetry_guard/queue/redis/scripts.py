"""The Lua scripts of the Redis store: each is one step that happens wholly or not at all.

Each begins with what `arbiter` has. Repeating any call changes nothing: an answer may be lost on its way.
"""

from __future__ import annotations

from .arbiter import COMMON, Script

DONE_KEPT = 100_000
"""Batch ids that are remembered as done, at most."""
DONE_SECONDS = 7 * 24 * 3600
"""How long a batch id is remembered as done, in seconds: longer than a machine is away and comes back with its disk."""
OLD_HELD = 8
"""Batches of each kind that RENEW asks about whether their holder knows of them."""
CLAIM_BYTES = 1024 * 1024
"""Bytes of several batches that one claim returns at most."""

BATCH_ARGUMENTS = 7
"""batch_id, kind, rows, encoding, encrypted, created_at, body: how a batch is written in the arguments."""

PUT = Script(
    COMMON
    + """
-- max_bytes, whether its delivery may begin at any time, batch: adds a batch and leases it to the caller, or says who
-- has it. It renews the lease too, and returns whether that had run out, and the epoch, empty when there is none.
local standing, left = add(6, tonumber(ARGV[4]), ARGV[5] == '1')
return {standing, left, renew(), redis.call('GET', EPOCH) or ''}
"""
)

SWAP = Script(
    COMMON
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
  answers[#answers + 1] = add(at, tonumber(ARGV[4]), true)
end
return answers
"""
)

CONFIRM = Script(
    COMMON
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

BEGIN = Script(
    COMMON
    + """
-- batch ids: their delivery begins, so whoever takes them over has to send each as it is, under its own id.
allow_when_full()
for i = 4, #ARGV do
  local stream, entry = find(ARGV[i])
  if stream then
    ensure_group(stream)
    if holder(stream, entry) == me then count_as(stream, entry, 1) end
  end
end
return 1
"""
)

RENEW = Script(
    COMMON
    + f"local OLD_HELD = {OLD_HELD}"
    + """
-- a random word, whether expired leases count: renews the lease; returns the epoch, whether the lease had run out, the
-- run of the server, which is another one after a restart, perhaps with older data, whether CLAIM may bring anything,
-- and the oldest batches that the caller has held for longer than a lease, which after a fail-over may be more than it
-- knows of. Who has nothing to do asks for no more than this.
allow_when_full()
local counts = leases_count() and ARGV[5] == '1'
local lapsed = renew()
redis.call('SET', EPOCH, ARGV[4], 'NX')
local offers, held = 0, {}
for _, stream in pairs(STREAMS) do
  if redis.call('EXISTS', stream) == 1 then
    ensure_group(stream)
    for _, pending in ipairs(redis.call('XPENDING', stream, GROUP, '-', '+', OLD_HELD, me)) do
      local found = pending[3] > lease and redis.call('XRANGE', stream, pending[1], pending[1], 'COUNT', 1) or {}
      if found[1] then held[#held + 1] = found[1][2][2] end
    end
  end
  for _, consumer in ipairs(lost_consumers(stream, counts)) do
    if consumer == NOBODY and redis.call('EXISTS', stream) == 1 then
      ensure_group(stream)
      if #redis.call('XPENDING', stream, GROUP, '-', '+', 1, NOBODY) > 0 then offers = 1 end
    elseif consumer ~= me and consumer ~= NOBODY then
      offers = 1
    end
  end
end
return {redis.call('GET', EPOCH), lapsed, about('run_id'), offers, held}
"""
)

RELEASE = Script(
    COMMON
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
    COMMON
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
    COMMON
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
    COMMON
    + """
-- says which batches are stored, for a machine that remembers which of them it has delivered.
allow_when_full()
return redis.call('HKEYS', INDEX)
"""
)

COUNT = Script(
    COMMON
    + """
-- counts the bytes of the stored batches, and then the batches of each kind.
mend()
local counts = {tonumber(redis.call('GET', BYTES) or '0')}
for _, kind in ipairs(KINDS) do counts[#counts + 1] = redis.call('XLEN', STREAMS[kind]) end
return counts
"""
)

CLAIM = Script(
    COMMON
    + f"local SEVERAL_BYTES = {CLAIM_BYTES}"
    + """
-- request, kind, most entries, most bytes, whether expired leases count (else only those that were given up):
-- hands the caller batches of consumers whose lease has ended. One batch may take all the bytes; several are few.
-- The same request gets the same answer again, less what the caller no longer holds. Each entry ends with how often its
-- delivery was begun.
allow_when_full()
local request, kind, limit, room, expired = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
expired = leases_count() and expired
local stream, mark = STREAMS[kind], me .. ' ' .. ARGV[5]
local entries, taken, size = {}, {request}, 0
if redis.call('EXISTS', stream) == 0 then return entries end
ensure_group(stream)

local function returned(fields, begun)
  fields[#fields + 1], fields[#fields + 2] = 'begun', tostring(begun)
  entries[#entries + 1] = fields
end

local last = redis.call('HGET', CLAIMS, mark)
if last and string.sub(last, 1, #request + 1) == request .. ' ' then
  for entry in string.gmatch(string.sub(last, #request + 2), '%S+') do
    local owner, begun = holder(stream, entry)
    if owner == me then
      local found = redis.call('XRANGE', stream, entry, entry, 'COUNT', 1)
      if found[1] then returned(found[1][2], begun) end
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

for _, consumer in ipairs(lost_consumers(stream, expired)) do
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
        returned(found[1][2], pending[4])
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
