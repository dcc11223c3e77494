#!lua
-- KEYS: meta, changes. ARGV: a new random tag, the channel. Without an `epoch` the place in the history is not known, so
-- nothing is written before a new history is started.
local meta, log, tag, channel = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('HEXISTS', meta, 'epoch') == 0 then
    return { 'no_history' }
end

-- Takes the next epoch, before the change that it announces: if a later write fails, nodes read a record once more and
-- nothing else happens. The epoch is read back as text, since a number of Lua is exact up to 2^53 only.
local function append_change(id)
    redis.call('HINCRBY', meta, 'epoch', 1)
    local epoch = redis.call('HGET', meta, 'epoch')
    redis.call('XADD', log, 'MAXLEN', '~', 10000, epoch .. '-0', 'tag', tag, 'key_id', id)
    redis.call('HSET', meta, 'tag', tag)
end

-- A user without a right to the channel makes changes all the same; other nodes then learn of them by their polls.
local function notify()
    redis.pcall('PUBLISH', channel, '')
end
