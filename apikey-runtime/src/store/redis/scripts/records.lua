-- KEYS: after meta and changes, the index, the purge index, the owners, their revocations, and records.
local index, purge_index, owners, revocations = KEYS[3], KEYS[4], KEYS[5], KEYS[6]

-- Returns a member of the index. Two texts whose hashes start alike share a place, so a record that is found by it is
-- compared with the text itself.
local function index_member(kind, text, id)
    return kind .. string.sub(redis.sha1hex(text), 1, 16) .. id
end

local function unindex_record(record, id)
    local texts = redis.call('HMGET', record, 'owner', 'label')
    redis.call('ZREM', index, 'i' .. id, index_member('o', texts[1] or '', id), index_member('l', texts[2] or '', id))
end

-- The score is rounded, in the same way as the bound that is asked for; the exact times are compared
-- when a record is removed. Returns the time.
local function set_purge_time(id, times)
    local first
    for _, time in ipairs(times) do
        if time and #time <= 20 and string.find(time, '^%-?%d+$')
            and (not first or tonumber(time) < tonumber(first)) then
            first = time
        end
    end
    if first then
        redis.call('ZADD', purge_index, first, id)
    else
        redis.call('ZREM', purge_index, id)
    end
    return first
end

local function index_record(record, id)
    local texts = redis.call('HMGET', record, 'owner', 'label')
    redis.call('ZADD', index, 0, 'i' .. id)
    if texts[1] then
        redis.call('ZADD', index, 0, index_member('o', texts[1], id))
    end
    if texts[2] then
        redis.call('ZADD', index, 0, index_member('l', texts[2], id))
    end
    set_purge_time(id, redis.call('HMGET', record, 'revoked_at', 'expires_at'))
end

-- Leaves the largest version, and a version that is not a number, as it is.
local function increment_version(record)
    redis.pcall('HINCRBY', record, 'version', 1)
end

local function set_revoked(record, id, at, reason, expires_at)
    if reason then
        redis.call('HSET', record, 'revoked_at', at, 'revoked_reason', reason)
    else
        redis.call('HSET', record, 'revoked_at', at)
        redis.call('HDEL', record, 'revoked_reason')
    end
    set_purge_time(id, { at, expires_at })
end

