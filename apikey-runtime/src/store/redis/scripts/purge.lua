-- KEYS: after those, when keys were last used; records, each with its counts. ARGV: the time, and the ids of the records.
local before, used = ARGV[3], KEYS[5]
local given = {}
for i = 4, #ARGV do
    given[ARGV[i]] = true
end
for _, id in ipairs(redis.call('ZRANGE', ends, '-inf', before, 'BYSCORE')) do
    if not given[id] then
        return { 'stale' }
    end
end

local function is_due(record)
    for _, time in ipairs(redis.call('HMGET', record, 'revoked_at', 'expires_at')) do
        if time and string.find(time, '^%-?%d+$') and less(time, before) then
            return true
        end
    end
    return false
end

local function forget(id, counts)
    redis.call('DEL', counts)
    redis.pcall('HDEL', used, id)
end

local answer = { 'done' }
for i = 4, #ARGV do
    local id, record, counts = ARGV[i], KEYS[2 * i - 2], KEYS[2 * i - 1]
    if redis.call('EXISTS', record) == 0 then
        redis.call('ZREM', ends, id)
        redis.call('ZREM', index, 'i' .. id)
        forget(id, counts)
    elseif is_due(record) then
        note(id)
        delist(record, id)
        redis.call('ZREM', ends, id)
        redis.call('DEL', record)
        forget(id, counts)
        answer[#answer + 1] = id
    end
end
if #answer > 1 then
    tell()
end
return answer
