#!lua
-- Counts of limits, as limit/count.rs has them. One is kept as the text `arrival:period:used:` with `part=used,` behind it
-- for each part of a rolling window, the oldest first. Every number is below 2^53, up to which one of Lua is exact, and is
-- written with all its digits.
local PARTS, EXACT = 60, 9007199254740992

local function digits(number)
    return string.format('%.0f', number)
end

-- The parts in a text, or nothing where it is none of them.
local function read_parts(text)
    local parts, length = {}, 0
    for part, used in string.gmatch(text, '(%d+)=(%d+),') do
        length = length + #part + #used + 2
        part, used = tonumber(part), tonumber(used)
        if part > EXACT or used > EXACT then
            return nil
        end
        parts[#parts + 1] = { part, used }
    end
    return length == #text and parts
end

-- The count in a text, or nothing where that is none: to take it for a new one would be to forget what was used.
local function read(text)
    if not text then
        return { arrival = 0, period = 0, used = 0, parts = {} }
    end
    local arrival, period, used, parts = string.match(text, '^(%d+):(%d+):(%d+):(.*)$')
    if not arrival then
        return nil
    end
    arrival, period, used = tonumber(arrival), tonumber(period), tonumber(used)
    parts = parts == '' and {} or read_parts(parts)
    if not parts or arrival > EXACT or period > EXACT or used > EXACT then
        return nil
    end
    return { arrival = arrival, period = period, used = used, parts = parts }
end

local function write(count)
    local texts = { digits(count.arrival), ':', digits(count.period), ':', digits(count.used), ':' }
    for _, part in ipairs(count.parts) do
        texts[#texts + 1] = digits(part[1]) .. '=' .. digits(part[2]) .. ','
    end
    return table.concat(texts)
end
