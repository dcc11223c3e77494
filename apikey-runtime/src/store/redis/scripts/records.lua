-- KEYS: after meta and log, the index, the ends, and records.
local index, ends = KEYS[3], KEYS[4]

-- A member of the index: two texts whose sums start alike share a place, so who finds a record by
-- it compares the text itself.
local function mark(kind, text, id)
    return kind .. string.sub(redis.sha1hex(text), 1, 16) .. id
end

local function delist(record, id)
    local texts = redis.call('HMGET', record, 'owner', 'label')
    redis.call('ZREM', index, 'i' .. id, mark('o', texts[1] or '', id), mark('l', texts[2] or '', id))
end

-- The score is rounded, in the same way as the bound that is asked for; the exact times are compared
-- when a record is removed.
local function set_end(record, id)
    local first
    for _, time in ipairs(redis.call('HMGET', record, 'revoked_at', 'expires_at')) do
        if time and #time <= 20 and string.find(time, '^%-?%d+$')
            and (not first or tonumber(time) < tonumber(first)) then
            first = time
        end
    end
    if first then
        redis.call('ZADD', ends, first, id)
    else
        redis.call('ZREM', ends, id)
    end
end

local function enlist(record, id)
    local texts = redis.call('HMGET', record, 'owner', 'label')
    redis.call('ZADD', index, 0, 'i' .. id)
    if texts[1] then
        redis.call('ZADD', index, 0, mark('o', texts[1], id))
    end
    if texts[2] then
        redis.call('ZADD', index, 0, mark('l', texts[2], id))
    end
    set_end(record, id)
end

-- At the largest version, and at one that is no number, it stays as it is.
local function count(record)
    redis.pcall('HINCRBY', record, 'version', 1)
end

local function revoke(record, id, at, reason)
    note(id)
    redis.call('HSET', record, 'revoked_at', at)
    if reason then
        redis.call('HSET', record, 'revoked_reason', reason)
    else
        redis.call('HDEL', record, 'revoked_reason')
    end
    count(record)
    set_end(record, id)
end
