-- KEYS: a hash of usage. ARGV: an hour of the day, or 24. Answers the fields of the hour with their values; for 24, those that do not
-- belong to an hour.
local hour, names, answer = tonumber(ARGV[1]), {}, {}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    local found = tonumber(string.match(name, '^c?(%d%d?)|') or 24)
    if math.min(found, 24) == hour then
        names[#names + 1] = name
    end
end
-- In lots, since one call takes a bounded number of arguments.
local LOT = 1000
for from = 1, #names, LOT do
    local last = math.min(from + LOT - 1, #names)
    for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(names, from, last))) do
        answer[#answer + 1] = names[from + i - 1]
        answer[#answer + 1] = value
    end
end
return answer
