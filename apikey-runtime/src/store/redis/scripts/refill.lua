-- KEYS: the counts of a key. ARGV: the limit's name, its kind, and how much is given back.
local name, kind, left = ARGV[1], ARGV[2], tonumber(ARGV[3])
local text = redis.call('HGET', KEYS[1], name)
if not text then
    return { 'done' }
end
if kind == 'rate' then
    redis.call('HDEL', KEYS[1], name)
    return { 'done' }
end
if kind == 'rolling' then
    local parts, kept = read_parts(text), {}
    if not parts then
        return { 'broken' }
    end
    for _, part in ipairs(parts) do
        local back = math.min(left, part[2])
        part[2], left = part[2] - back, left - back
        if part[2] > 0 then
            kept[#kept + 1] = part
        end
    end
    text = write_parts(kept)
else
    local period, used = read_period(text)
    if not period then
        return { 'broken' }
    end
    text = digits('%.0f:%.0f', period, math.max(used - left, 0))
end
redis.call('HSET', KEYS[1], name, text)
return { 'done' }
