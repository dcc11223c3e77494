-- KEYS: the counts of a key. ARGV: when, in microseconds since 1970, or nothing, which is now; the cost; and four of each
-- limit: its name, its kind, and two numbers. Those of a rate are the times that its burst takes up and that the cost does,
-- in microseconds; those of a quota its amount, and the milliseconds of a part of its window.
local cost, now = tonumber(ARGV[2]), tonumber(ARGV[1])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end
local millis = math.floor(now / 1000)

-- Months since January 1970; see limit/count.rs.
local function month_of(day)
    local floor = math.floor
    local shifted = day + 719468
    local era = floor(shifted / 146097)
    local of_era = shifted - era * 146097
    local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
    local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
    return (era * 400 + year) * 12 + floor((5 * of_year + 2) / 153) + 2 - 1970 * 12
end

local function period_of(kind)
    local day = math.floor(millis / 86400000)
    if kind == 'day' then
        return day
    end
    return kind == 'month' and month_of(day) or 0
end

-- Each of these says whether a limit admits the cost, and gives what counts it.
local function rate(count, burst, span)
    local ahead = math.max(count.arrival, now) - now + span
    return ahead <= burst, function()
        count.arrival = now + ahead
    end
end

local function rolling(count, amount, length)
    local present = math.floor(millis / length)
    local kept, used = {}, 0
    for _, part in ipairs(count.parts) do
        if part[1] >= present - PARTS then
            kept[#kept + 1] = part
            used = used + part[2]
        end
    end
    return cost <= math.max(amount - used, 0), function()
        local last = kept[#kept]
        if last and last[1] >= present then
            last[2] = last[2] + cost
        else
            kept[#kept + 1] = { present, cost }
        end
        count.parts = kept
    end
end

local function period(count, amount, kind)
    local present = period_of(kind)
    local used = present > count.period and 0 or count.used
    return cost <= math.max(amount - used, 0), function()
        count.period = math.max(present, count.period)
        count.used = used + cost
    end
end

local names = {}
for i = 3, #ARGV, 4 do
    names[#names + 1] = ARGV[i]
end
local texts = redis.call('HMGET', KEYS[1], unpack(names))
local admitted, counts, charges, changed = true, {}, {}, {}
for i = 1, #names do
    local count = read(texts[i])
    if not count then
        return { 'broken' }
    end
    local kind, a, b = ARGV[4 * i], tonumber(ARGV[4 * i + 1]), tonumber(ARGV[4 * i + 2])
    local admits
    if kind == 'rate' then
        -- Holds from now on, also where nothing is charged: a clock that was set back would otherwise refuse until it has
        -- caught up.
        if count.arrival > now + a then
            count.arrival = now + a
            changed[i] = true
        end
        admits, charges[i] = rate(count, a, b)
    elseif kind == 'rolling' then
        admits, charges[i] = rolling(count, a, b)
    else
        admits, charges[i] = period(count, a, kind)
    end
    admitted = admitted and admits
    counts[i] = count
end

local fields, answer = {}, { admitted and 'admitted' or 'refused', digits(now) }
for i = 1, #names do
    local text = texts[i]
    if admitted and cost > 0 then
        charges[i]()
        changed[i] = true
    end
    if changed[i] then
        text = write(counts[i])
        fields[#fields + 1] = names[i]
        fields[#fields + 1] = text
    end
    answer[#answer + 1] = text or ''
end
if #fields > 0 then
    redis.call('HSET', KEYS[1], unpack(fields))
end
return answer
