-- KEYS: the number of the node's last batch, the usage days, the last uses of keys, hashes with the usage of a key on a
-- day, the records of keys with last uses, and sorted sets with the networks of a key, each followed by its record. ARGV: the
-- number, with as many digits as the largest; how long it is kept; the numbers of rows, of hashes and of keys with last uses; how
-- long networks are kept; for each hash in KEYS its day and when it expires; for each row its place in KEYS, field, requests and
-- cost; ids, each with the text of its last uses; and for each sorted set the number of its networks, each with its time.
-- The text of last uses: of each its time, the network if it is known, and the number of the secret if that is not 0; the
-- latest comes first, and a comma between two. A release before this one writes the time and the network alone.
-- A key without a record was purged meanwhile. It gets neither last uses nor networks: nothing would remove them.
local number, rows, hashes = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local last = redis.call('GET', KEYS[1])
if last and last >= number then
    return { 'already_added' }
end
redis.call('SET', KEYS[1], number, 'PX', ARGV[2])

-- A key of another type is skipped: an error halfway would leave a part of the batch.
local pcall, tonumber = redis.pcall, tonumber
local now = redis.call('TIME')
pcall('ZREMRANGEBYSCORE', KEYS[2], '-inf', now[1] .. '000')
local first_row = 7 + 2 * hashes
local first_use = first_row + 4 * rows
local first_record = 4 + hashes
local first_set = first_record + tonumber(ARGV[5])
local first_network = first_use + 2 * tonumber(ARGV[5])
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
for i = 4, 3 + hashes do
    local day, ends = ARGV[2 * i - 1], ARGV[2 * i]
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

-- Of the secret: the last word, if that is a number.
local function number_of(use)
    return string.match(use, ' (%d+)$') or '0'
end

-- Keeps the later use of each secret, and of the secrets the two with the highest numbers. Answers nothing if that is what
-- is there.
local function merged(before, text)
    if not time_of(before) then
        return text
    end
    if not string.find(before .. text, ',', 1, true) and number_of(before) == number_of(text) then
        return is_less(time_of(before), time_of(text)) and text
    end
    local uses, kept = {}, {}
    for use in string.gmatch(before .. ',' .. text, '[^,]+') do
        local known, at = uses[number_of(use)], time_of(use)
        if at and (not known or is_less(time_of(known), at)) then
            uses[number_of(use)] = use
        end
    end
    for _, use in pairs(uses) do
        kept[#kept + 1] = use
    end
    table.sort(kept, function(a, b)
        return is_less(number_of(b), number_of(a))
    end)
    local first, second = kept[1], kept[2]
    if second and is_less(time_of(first), time_of(second)) then
        first, second = second, first
    end
    local all = second and first .. ',' .. second or first
    return all ~= before and all
end

local function is_there(record)
    return pcall('EXISTS', record) == 1
end

-- In lots, since one call takes a bounded number of arguments.
local LOT = 1000
for from = first_use, first_network - 1, 2 * LOT do
    local ids, later = {}, {}
    for i = from, math.min(from + 2 * LOT, first_network) - 1, 2 do
        ids[#ids + 1] = ARGV[i]
    end
    local texts = pcall('HMGET', KEYS[3], unpack(ids))
    for i, id in ipairs(ids) do
        local text = merged(texts[i], ARGV[from + 2 * i - 1])
        if text and is_there(KEYS[first_record + (from - first_use) / 2 + i - 1]) then
            later[#later + 1] = id
            later[#later + 1] = text
        end
    end
    if #later > 0 then
        pcall('HSET', KEYS[3], unpack(later))
    end
end

-- Networks are kept for as long as usage, and the 20 latest of a key.
local millis, keep = tonumber(now[1]) * 1000, tonumber(ARGV[6])
local place = first_network
for i = first_set, #KEYS, 2 do
    local last = place + 2 * tonumber(ARGV[place])
    if is_there(KEYS[i + 1]) then
        local added = pcall('ZADD', KEYS[i], 'GT', unpack(ARGV, place + 1, last))
        pcall('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('(%.0f', millis - keep))
        if added ~= 0 then
            pcall('ZREMRANGEBYRANK', KEYS[i], 0, -21)
        end
        pcall('PEXPIREAT', KEYS[i], string.format('%.0f', millis + keep))
    end
    place = last + 1
end
return { 'done' }
