-- ARGV: the time, and the ids of the records in KEYS.
local before = ARGV[3]
local given = {}
for i = 4, #ARGV do
    given[ARGV[i]] = true
end
for _, id in ipairs(redis.call('ZRANGE', ends, '-inf', before, 'BYSCORE')) do
    if not given[id] then
        return { 'stale' }
    end
end

-- Compares whole numbers of 64 bits as texts: a number of Lua is exact up to 2^53 only.
local function less(a, b)
    local below_a, below_b = string.sub(a, 1, 1) == '-', string.sub(b, 1, 1) == '-'
    if below_a ~= below_b then
        return below_a
    end
    if below_a then
        a, b = string.sub(b, 2), string.sub(a, 2)
    end
    if #a ~= #b then
        return #a < #b
    end
    return a < b
end

local function is_due(record)
    for _, time in ipairs(redis.call('HMGET', record, 'revoked_at', 'expires_at')) do
        if time and string.find(time, '^%-?%d+$') and less(time, before) then
            return true
        end
    end
    return false
end

local answer = { 'done' }
for i = 4, #ARGV do
    local id, record = ARGV[i], KEYS[i + 1]
    if redis.call('EXISTS', record) == 0 then
        redis.call('ZREM', ends, id)
        redis.call('ZREM', index, 'i' .. id)
    elseif is_due(record) then
        note(id)
        delist(record, id)
        redis.call('ZREM', ends, id)
        redis.call('DEL', record)
        answer[#answer + 1] = id
    end
end
if #answer > 1 then
    tell()
end
return answer
