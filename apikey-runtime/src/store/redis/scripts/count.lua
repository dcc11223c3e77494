#!lua
-- Counts of limits, as limit/count.rs has them. One is kept as a text: that of a rate is its arrival; that of a quota
-- `period:used`; that of a rolling one `used:oldest:`, the sum and the number of its last part, and then `part=used,` for each
-- part of its window, the newest first, so that most charges need not read them all. Every number is below 2^53, up to which
-- one of Lua is exact, and is written with all its digits.
local EXACT, digits = 9007199254740992, string.format

-- The period that was counted, and what was used in it; nothing where the text is none: to take it for a new count would be
-- to forget what was used.
local function read_period(text)
    if not text then
        return 0, 0
    end
    local period, used = string.match(text, '^(%d+):(%d+)$')
    period, used = tonumber(period), tonumber(used)
    if period and period <= EXACT and used <= EXACT then
        return period, used
    end
end

-- Those parts in a text that are not before `first`, the newest first, and the sum of what was used in them; nothing where
-- the text is none.
local function read_parts(text, first)
    local parts, sum, length = {}, 0, 0
    for part, used in string.gmatch(text, '(%d+)=(%d+),') do
        length = length + #part + #used + 2
        part, used = tonumber(part), tonumber(used)
        if part >= first then
            parts[#parts + 1] = { part, used }
            sum = sum + used
        end
    end
    if length == #text then
        return parts, sum
    end
end

local function write_parts(parts)
    local texts = {}
    for i, part in ipairs(parts) do
        texts[i] = digits('%.0f=%.0f,', part[1], part[2])
    end
    return table.concat(texts)
end
