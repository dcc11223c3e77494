-- KEYS: after those of records.lua, the last uses of keys; records, each with its limit counters. ARGV: the time, and the ids of the records.
local before, last_used = ARGV[3], KEYS[5]
local given = {}
for i = 4, #ARGV do
    given[ARGV[i]] = true
end
for _, id in ipairs(redis.call('ZRANGE', purge_index, '-inf', before, 'BYSCORE')) do
    if not given[id] then
        return { 'stale' }
    end
end

local function is_purgeable(record)
    for _, time in ipairs(redis.call('HMGET', record, 'revoked_at', 'expires_at')) do
        if time and string.find(time, '^%-?%d+$') and is_less(time, before) then
            return true
        end
    end
    return false
end

local function delete_counters(id, counters)
    redis.call('DEL', counters)
    redis.pcall('HDEL', last_used, id)
end

local answer = { 'done' }
for i = 4, #ARGV do
    local id, record, counters = ARGV[i], KEYS[2 * i - 2], KEYS[2 * i - 1]
    if redis.call('EXISTS', record) == 0 then
        redis.call('ZREM', purge_index, id)
        redis.call('ZREM', index, 'i' .. id)
        delete_counters(id, counters)
    elseif is_purgeable(record) then
        append_change(id)
        unindex_record(record, id)
        redis.call('ZREM', purge_index, id)
        redis.call('DEL', record)
        delete_counters(id, counters)
        answer[#answer + 1] = id
    end
end
if #answer > 1 then
    notify()
end
return answer
