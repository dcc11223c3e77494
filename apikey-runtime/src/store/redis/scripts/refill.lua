-- KEYS: the limit counters of a key. ARGV: the limit's name, its kind, and how much is given back.
local name, kind, left = ARGV[1], ARGV[2], tonumber(ARGV[3])
local text = redis.call('HGET', KEYS[1], name)
if not text then
    return { 'done' }
end
if kind == 'rate' then
    text = nil
elseif kind == 'rolling' then
    local parts, sum = read_parts(string.match(text, '^%d+:%d+:(.+)$') or 'none', 0)
    if not parts then
        return { 'corrupt' }
    end
    -- The newest first: the oldest may have left the window.
    while left > 0 and #parts > 0 do
        local part = parts[1]
        local back = math.min(left, part[2])
        part[2], left, sum = part[2] - back, left - back, sum - back
        if part[2] == 0 then
            table.remove(parts, 1)
        end
    end
    text = #parts > 0 and digits('%.0f:%.0f:', sum, parts[#parts][1]) .. write_parts(parts)
else
    local period, used = read_period(text)
    if not period then
        return { 'corrupt' }
    end
    text = digits('%.0f:%.0f', period, math.max(used - left, 0))
end
if text then
    redis.call('HSET', KEYS[1], name, text)
else
    redis.call('HDEL', KEYS[1], name)
end
return { 'done' }
