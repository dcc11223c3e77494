-- KEYS: the number of the node's last batch, the days, when keys were last used, and the counts of a key on a day, as many
-- as are needed. ARGV: the number, with as many digits as the largest; for how long it is kept; how many rows there are; of
-- each place in KEYS its day and when its counts go; of each row its place, field, requests and cost; and ids, each with when
-- and where it was last used.
local number, rows = ARGV[1], tonumber(ARGV[3])
local last = redis.call('GET', KEYS[1])
if last and last >= number then
    return { 'before' }
end
redis.call('SET', KEYS[1], number, 'PX', ARGV[2])

-- What is under one name and was not written here spoils that only: an error on the way would leave a part of the batch.
local pcall = redis.pcall
local time = redis.call('TIME')
pcall('ZREMRANGEBYSCORE', KEYS[2], '-inf', time[1] .. '000')
local row = 4 + 2 * (#KEYS - 3)
local first_used = row + 4 * rows
for i = row, first_used - 1, 4 do
    local key, field = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
    pcall('HINCRBY', key, 'r|' .. field, ARGV[i + 2])
    if ARGV[i + 3] ~= '0' then
        pcall('HINCRBY', key, 'c|' .. field, ARGV[i + 3])
    end
end
local days = {}
for i = 4, #KEYS do
    local day, ends = ARGV[2 * i - 4], ARGV[2 * i - 3]
    pcall('PEXPIREAT', KEYS[i], ends)
    if not days[day] then
        days[day] = true
        pcall('ZADD', KEYS[2], 'GT', ends, day)
    end
end
for i = first_used, #ARGV, 2 do
    local before = pcall('HGET', KEYS[3], ARGV[i])
    before = type(before) == 'string' and string.match(before, '^%-?%d+')
    if not before or less(before, string.match(ARGV[i + 1], '^%-?%d+')) then
        pcall('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    end
end
return { 'done' }
