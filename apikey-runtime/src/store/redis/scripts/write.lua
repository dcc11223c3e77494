#!lua
-- KEYS: meta, log. ARGV: a new random tag, the channel. Without `epoch` nothing tells where the
-- history stands, so nothing is written before it is founded anew.
local meta, log, tag, channel = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('HEXISTS', meta, 'epoch') == 0 then
    return { 'unfounded' }
end

-- Takes the next epoch, and comes before what it tells of: should a write after it fail, somebody
-- reads a record anew for nothing. The epoch is read back as text, since a number of Lua is exact
-- up to 2^53 only.
local function note(id)
    redis.call('HINCRBY', meta, 'epoch', 1)
    local epoch = redis.call('HGET', meta, 'epoch')
    redis.call('XADD', log, 'MAXLEN', '~', 10000, epoch .. '-0', 't', tag, 'k', id)
    redis.call('HSET', meta, 'tag', tag)
end

-- A user without a right to the channel makes changes all the same; others then hear of them by
-- their polls.
local function tell()
    redis.pcall('PUBLISH', channel, '')
end
