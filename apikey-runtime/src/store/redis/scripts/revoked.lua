-- The score is rounded, in the same way as the bound that is asked for; the exact times are compared
-- when a record is removed. Returns the time.
local function set_purge_time(id, times)
    local first
    for _, time in pairs(times) do
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

-- Leaves the largest version, and a version that is not a number, as it is.
local function increment(record, field)
    redis.pcall('HINCRBY', record, field, 1)
end

local function set_or_clear(record, field, value)
    if value then
        redis.call('HSET', record, field, value)
    else
        redis.call('HDEL', record, field)
    end
end

local function set_revoked(record, id, at, reason, expires_at)
    redis.call('HSET', record, 'revoked_at', at)
    set_or_clear(record, 'revoked_reason', reason)
    set_purge_time(id, { at, expires_at })
end

