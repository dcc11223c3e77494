-- KEYS: the limit counters of a key. ARGV: the time, in microseconds since 1970, or nothing, which is now; the cost; and four
-- for each limit: its name, its kind, and two numbers. For a rate they are the times that its burst and the cost take, in
-- microseconds; for a quota its amount, and the milliseconds of a part of its window.
local call, floor, match, find, tonumber = redis.call, math.floor, string.match, string.find, tonumber
local cost, now = tonumber(ARGV[2]), tonumber(ARGV[1])
if not now then
    local time = call('TIME')
    now = time[1] * 1000000 + time[2]
end

-- Months since January 1970; see limit/count.rs.
local function month_of(day)
    local shifted = day + 719468
    local era = floor(shifted / 146097)
    local of_era = shifted - era * 146097
    local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
    local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
    return (era * 400 + year) * 12 + floor((5 * of_year + 2) / 153) + 2 - 1970 * 12
end

-- Each of these returns whether a limit admits the cost, and the contents of its counter once that is charged; nothing if
-- the counter cannot be read.
local function check_rate(text, burst, span)
    local tat = tonumber(match(text or '0', '^%d+$'))
    if not tat or tat > EXACT then
        return nil
    end
    -- See limit/gcra.rs. After a clock was set back, or a rate was another one, a time that is later than a burst from now
    -- by more than this charge takes up is cut such that the charge is just admitted: otherwise the rate would deny until
    -- the clock has caught up.
    if tat > now + burst + span then
        tat = now + burst - (span <= burst and span or 0)
    elseif tat < now then
        tat = now
    end
    tat = tat + span
    return cost == 0 or tat - now <= burst, tat
end

local function check_rolling(text, amount, length)
    local present = floor(floor(now / 1000) / length)
    local sum, oldest, parts = 0, present, ''
    if text then
        sum, oldest, parts = match(text, '^(%d+):(%d+):(.+)$')
        sum, oldest = tonumber(sum), tonumber(oldest)
        if not sum or sum > EXACT or oldest > EXACT then
            return nil
        end
    end
    if oldest < present - 60 then
        local kept
        kept, sum = read_parts(parts, present - 60)
        if not kept then
            return nil
        end
        oldest = kept[1] and kept[#kept][1] or present
        parts = write_parts(kept)
    end
    -- After the clock was set back, the latest part that was used is counted on.
    local last, used, rest = present, 0, parts
    if parts ~= '' then
        local newest, newest_used, older = match(parts, '^(%d+)=(%d+),(.*)$')
        if not newest then
            return nil
        end
        newest, newest_used = tonumber(newest), tonumber(newest_used)
        if newest > EXACT or newest_used > EXACT or find(older, '[^%d=,]') then
            return nil
        end
        if newest >= present then
            last, used, rest = newest, newest_used, older
        end
    end
    sum = sum + cost
    return sum <= amount or cost == 0, digits('%.0f:%.0f:%.0f=%.0f,', sum, oldest, last, used + cost) .. rest
end

local function check_period(text, amount, kind)
    local period, used = read_period(text)
    if not period then
        return nil
    end
    local present = 0
    if kind ~= 'lifetime' then
        present = floor(now / 86400000000)
        if kind == 'month' then
            present = month_of(present)
        end
    end
    if present > period then
        period, used = present, 0
    end
    return used + cost <= amount or cost == 0, period, used + cost
end

local function check(kind, text, a, b)
    if kind == 'rate' then
        return check_rate(text, a, b)
    elseif kind == 'rolling' then
        return check_rolling(text, a, b)
    end
    return check_period(text, a, kind)
end

local function write(kind, a, b)
    if kind == 'rate' then
        return digits('%.0f', a)
    elseif kind == 'rolling' then
        return a
    end
    return digits('%.0f:%.0f', a, b)
end

local names = {}
for i = 3, #ARGV, 4 do
    names[#names + 1] = ARGV[i]
end
local texts = call('HMGET', KEYS[1], unpack(names))
local admitted, charged, fields = true, {}, {}
for i = 1, #names do
    local admits, a, b = check(ARGV[4 * i], texts[i], tonumber(ARGV[4 * i + 1]), tonumber(ARGV[4 * i + 2]))
    if admits == nil then
        return { 'corrupt' }
    end
    admitted = admitted and admits
    charged[2 * i - 1], charged[2 * i] = a, b
end

local answer = { admitted and 'admitted' or 'denied', digits('%.0f', now) }
for i = 1, #names do
    local text = texts[i] or ''
    if admitted and cost > 0 then
        text = write(ARGV[4 * i], charged[2 * i - 1], charged[2 * i])
        fields[2 * i - 1], fields[2 * i] = names[i], text
    end
    answer[#answer + 1] = text
end
if #fields > 0 then
    call('HSET', KEYS[1], unpack(fields))
end
return answer
