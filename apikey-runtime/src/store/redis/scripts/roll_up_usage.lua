-- Adds counts of hashes to others. KEYS: up to where the roll-up is; and hashes with the usage of a key on a day. ARGV: what KEYS[1] is
-- and what it becomes, or twice the same; and for each hash the number of pairs, each the field of requests and the one that it is
-- added to. The cost of the requests is in the field with a 'c' before it, and moves with them.
local function is_added(hash, field, count)
    return type(redis.pcall('HINCRBY', hash, field, count)) == 'number'
end

local place = 3
for i = 2, #KEYS do
    local last = place + 2 * tonumber(ARGV[place])
    for field = place + 1, last, 2 do
        local hash, hour, day = KEYS[i], ARGV[field], ARGV[field + 1]
        local found = redis.pcall('HMGET', hash, hour, 'c' .. hour)
        local requests, cost = found[1], found[2]
        -- A sum that has no room, and what is not a number, stay as they are, and what belongs to them too.
        if requests and (not cost or is_added(hash, 'c' .. day, cost)) then
            if is_added(hash, day, requests) then
                redis.call('HDEL', hash, hour, 'c' .. hour)
            elseif cost then
                redis.pcall('HINCRBY', hash, 'c' .. day, '-' .. cost)
            end
        end
    end
    place = last + 1
end
if ARGV[1] ~= ARGV[2] and (redis.call('GET', KEYS[1]) or '') == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2])
    return { 'went_on' }
end
return { 'done' }
