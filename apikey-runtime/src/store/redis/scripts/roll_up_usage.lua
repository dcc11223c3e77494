-- Adds fields of hashes to others. KEYS: up to where the roll-up is; and hashes with the usage of a key on a day. ARGV: what KEYS[1] is
-- and what it becomes, or twice the same; and for each hash the number of pairs, each a field and the one that it is added to.
local place = 3
for i = 2, #KEYS do
    local last = place + 2 * tonumber(ARGV[place])
    for field = place + 1, last, 2 do
        local count = redis.pcall('HGET', KEYS[i], ARGV[field])
        -- A sum that has no room, and what is not a number, stay as they are.
        if type(count) == 'string' and type(redis.pcall('HINCRBY', KEYS[i], ARGV[field + 1], count)) == 'number' then
            redis.call('HDEL', KEYS[i], ARGV[field])
        end
    end
    place = last + 1
end
if ARGV[1] ~= ARGV[2] and (redis.call('GET', KEYS[1]) or '') == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2])
end
return { 'done' }
