"""What has to happen in one step on the server, in Lua: claims and settlements that no other consumer can come between.

An entry that somebody has read is due again when it has been idle for the visibility timeout, by Redis' own record of
it. A shorter wait is an idle time put forward. A longer one, which Redis cannot note, stands in a sorted set beside the
stream (`leases`: entry -> when it is due, in ms): only for such entries, and gone with them.

KEYS are the stream and its leases, ARGV begins with group, consumer and visibility timeout in ms, in all three.

PURE: texts.
"""

from __future__ import annotations

_PROLOGUE = """
local stream, leases = KEYS[1], KEYS[2]
local group, consumer, visibility = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# ARGV: limit. Makes up to so many entries that are due ours, whoever had them. Returns those with how often they were
# received, the ids of those that are no longer in the stream, and in how many ms to look again.
TAKE = (
    _PROLOGUE
    + """
local limit, taken, trimmed, again, from = tonumber(ARGV[4]), {}, {}, visibility, '-'
repeat
  local page = redis.call('XPENDING', stream, group, 'IDLE', visibility, from, '+', 100)
  for _, entry in ipairs(page) do
    local id, receives = entry[1], entry[4]
    local due = tonumber(redis.call('ZSCORE', leases, id) or 0)
    if due > now then
      again = math.min(again, due - now)
    elseif #taken < limit then
      redis.call('ZREM', leases, id)
      local found = redis.call('XRANGE', stream, id, id)[1]
      if found then
        redis.call('XCLAIM', stream, group, consumer, 0, id)
        taken[#taken + 1] = {id, receives + 1, found[2]}
      else
        redis.call('XACK', stream, group, id)
        trimmed[#trimmed + 1] = id
      end
    end
    from = '(' .. id
  end
until #page < 100 or #taken >= limit
if #taken >= limit then
  again = 0
else
  -- The oldest thousand: what lies beyond them is seen when its time has come, at the next look.
  for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', 1000)) do
    if entry[3] < visibility then again = math.min(again, visibility - entry[3]) end
  end
end
return {taken, trimmed, again}
"""
)

# ARGV: '1' to delete what is done, then for each entry its id, how often it was received, and in how many ms it is due
# again ('': it is done). Returns the ids of those that were not ours any more, which are left as they are, and of those
# that are due again but no longer in the stream: Redis drops them from the pending list then.
SETTLE = (
    _PROLOGUE
    + """
local late, trimmed = {}, {}
for i = 5, #ARGV, 3 do
  local id, receives, after = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local entry = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if not entry or entry[2] ~= consumer or entry[4] ~= receives then
    late[#late + 1] = id
  elseif after then
    if after > visibility then
      redis.call('ZADD', leases, now + after, id)
    else
      redis.call('ZREM', leases, id)
    end
    local idle = math.max(visibility - after, 0)
    local claimed = redis.call('XCLAIM', stream, group, consumer, 0, id, 'IDLE', idle, 'JUSTID')
    if #claimed == 0 then trimmed[#trimmed + 1] = id end
  else
    redis.call('ZREM', leases, id)
    redis.call('XACK', stream, group, id)
    if ARGV[4] == '1' then redis.call('XDEL', stream, id) end
  end
end
return {late, trimmed}
"""
)

# Ends a consumer without losing what it has: that is due when it would have been. (XGROUP DELCONSUMER alone would make
# its entries nobody's, forever.)
LEAVE = (
    _PROLOGUE
    + """
repeat
  local page = redis.call('XPENDING', stream, group, '-', '+', 1000, consumer)
  for _, entry in ipairs(page) do
    redis.call('XCLAIM', stream, group, 'handed-back', 0, entry[1], 'IDLE', entry[3], 'JUSTID')
  end
until #page < 1000
return redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
"""
)

# KEYS: the stream, and a key of this record alone. ARGV: dedupe window in ms, maximum length ('': none), then fields.
# Adds the record unless it was added within the window.
ADD = """
if not redis.call('SET', KEYS[2], '', 'NX', 'PX', ARGV[1]) then return false end
if ARGV[2] == '' then
  return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
end
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 3))
"""
