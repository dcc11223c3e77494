#!lua
-- Limit counters, as limit/count.rs has them, each as a text. A rate: its theoretical arrival time. A quota: `period:used`.
-- A rolling quota: `used:oldest:`, the sum and the number of its last part, and then `part=used,` for each part of its
-- window, the newest first, so that most charges need not read them all. Every number is below 2^53, up to which a number
-- of Lua is exact, and is written with all its digits.
local EXACT, digits = 9007199254740992, string.format
-- The days until the year 9999; see limit/state.rs.
local MAX_PERIOD = 2932896

-- Returns the period that was counted, and what was used in it; nothing if the text cannot be read: taking it for a new
-- counter would forget what was used.
local function read_period(text)
    if not text then
        return 0, 0
    end
    local period, used = string.match(text, '^(%d+):(%d+)$')
    period, used = tonumber(period), tonumber(used)
    if period and period <= MAX_PERIOD and used <= EXACT then
        return period, used
    end
end

-- Returns the parts in a text that are not before `first`, the newest first, and the sum of what was used in them; nothing
-- if the text cannot be read.
local function read_parts(text, first)
    local parts, sum, length = {}, 0, 0
    for part, used in string.gmatch(text, '(%d+)=(%d+),') do
        length = length + #part + #used + 2
        part, used = tonumber(part), tonumber(used)
        if part > EXACT or used > EXACT then
            return nil
        end
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
