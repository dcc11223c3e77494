-- KEYS: the number of the node's last batch, the usage days, the last uses of keys, and any number of hashes with the
-- usage of a key on a day. ARGV: the number, with as many digits as the largest; how long it is kept; the number of rows;
-- for each hash in KEYS its day and when it expires; for each row its place in KEYS, field, requests and cost; and ids,
-- each with the time and network of its last use.
local number, rows = ARGV[1], tonumber(ARGV[3])
local last = redis.call('GET', KEYS[1])
if last and last >= number then
    return { 'already_added' }
end
redis.call('SET', KEYS[1], number, 'PX', ARGV[2])

-- A key of another type is skipped: an error halfway would leave a part of the batch.
local pcall, tonumber = redis.pcall, tonumber
local now = redis.call('TIME')
pcall('ZREMRANGEBYSCORE', KEYS[2], '-inf', now[1] .. '000')
local first_row = 4 + 2 * (#KEYS - 3)
local first_use = first_row + 4 * rows
local is_new = {}
for i = first_row, first_use - 1, 4 do
    local place, field, requests, cost = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    if pcall('HINCRBY', KEYS[place], field, requests) == tonumber(requests) then
        is_new[place] = true
    end
    if cost ~= '0' then
        pcall('HINCRBY', KEYS[place], 'c' .. field, cost)
    end
end

-- A hash without a new field has its expiry already, and setting that takes twice as long as adding.
local days = {}
for i = 4, #KEYS do
    local day, ends = ARGV[2 * i - 4], ARGV[2 * i - 3]
    if is_new[i] then
        pcall('PEXPIREAT', KEYS[i], ends)
    end
    if not days[day] then
        days[day] = true
        pcall('ZADD', KEYS[2], 'GT', ends, day)
    end
end

local function time_of(text)
    return text and string.match(text, '^%-?%d+')
end

-- In lots, since one call takes a bounded number of arguments.
local LOT = 1000
for from = first_use, #ARGV, 2 * LOT do
    local ids, later = {}, {}
    for i = from, math.min(from + 2 * LOT, #ARGV) - 1, 2 do
        ids[#ids + 1] = ARGV[i]
    end
    local texts = pcall('HMGET', KEYS[3], unpack(ids))
    for i, id in ipairs(ids) do
        local text = ARGV[from + 2 * i - 1]
        local before = time_of(texts[i])
        if not before or is_less(before, time_of(text)) then
            later[#later + 1] = id
            later[#later + 1] = text
        end
    end
    if #later > 0 then
        pcall('HSET', KEYS[3], unpack(later))
    end
end
return { 'done' }
