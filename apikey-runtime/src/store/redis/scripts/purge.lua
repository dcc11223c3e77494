-- One step: the records that the caller found in the purge index. KEYS: after those of records.lua, the last uses of keys;
-- records, each with its limit counters. ARGV: the time, and the ids of the records. Answers how many of them stay in the
-- index before the time, and the ids of those that were removed.
local before, last_used = ARGV[3], KEYS[7]

local function is_over(time)
    return time and string.find(time, '^%-?%d+$') and is_less(time, before)
end

local function delete_counters(id, counters)
    redis.call('DEL', counters)
    redis.pcall('HDEL', last_used, id)
end

local kept, answer = 0, { 'done', '0' }
for i = 4, #ARGV do
    local id, record, counters = ARGV[i], KEYS[2 * i], KEYS[2 * i + 1]
    -- A key of another type is not a record, and stays.
    local times = redis.pcall('HMGET', record, 'revoked_at', 'expires_at')
    if times.err then
        kept = kept + 1
    elseif redis.call('EXISTS', record) == 0 then
        redis.call('ZREM', purge_index, id)
        redis.call('ZREM', index, 'i' .. id)
        delete_counters(id, counters)
    elseif is_over(times[1]) or is_over(times[2]) then
        append_change(id, 'key')
        unindex_record(record, id)
        redis.call('ZREM', purge_index, id)
        redis.call('DEL', record)
        delete_counters(id, counters)
        answer[#answer + 1] = id
    else
        -- Its times were changed by hand, or are so large that the index rounds them.
        local first = set_purge_time(id, times)
        if first and tonumber(first) <= tonumber(before) then
            kept = kept + 1
        end
    end
end
if #answer > 2 then
    notify()
end
answer[2] = tostring(kept)
return answer
