#!lua
-- KEYS: meta, changes. ARGV: a new random tag, the channel. Without an `epoch` the place in the history is not known, so
-- nothing is written before a new history is started.
local meta, log, tag, channel = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('HEXISTS', meta, 'epoch') == 0 then
    return { 'no_history' }
end

-- Takes the next epoch, before the change that it announces: if a later write fails, nodes read a record once more and
-- nothing else happens. The epoch is read back as text, since a number of Lua is exact up to 2^53 only. `kind` is `key`
-- (that one changed), `member` (a node joined, no record changed), `owner` (that owner's state changed; its name is a field
-- of its own), or `all` (anything may have changed); a reader takes a kind that it does not know for `all`. Nodes trim the
-- log; whatever they do, it keeps some million entries at most.
local is_tagged = false
local function append_change(id, kind, owner)
    redis.call('HINCRBY', meta, 'epoch', 1)
    if not is_tagged then
        redis.call('HSET', meta, 'tag', tag)
        is_tagged = true
    end
    local epoch = redis.call('HGET', meta, 'epoch')
    local entry = { 'tag', tag, 'key_id', id, 'kind', kind }
    if owner then
        entry[7], entry[8] = 'owner', owner
    end
    redis.call('XADD', log, 'MAXLEN', '~', 1000000, epoch .. '-0', unpack(entry))
end

-- A user without a right to the channel makes changes all the same; other nodes then learn of them by their polls.
local function notify()
    redis.pcall('PUBLISH', channel, '')
end
