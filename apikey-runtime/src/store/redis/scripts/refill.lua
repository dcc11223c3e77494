-- KEYS: the counts of a key. ARGV: the limit's name, its kind, and how much is given back.
local name, left = ARGV[1], tonumber(ARGV[3])
local text = redis.call('HGET', KEYS[1], name)
if not text then
    return { 'done' }
end
if ARGV[2] == 'rate' then
    redis.call('HDEL', KEYS[1], name)
    return { 'done' }
end
local count = read(text)
if not count then
    return { 'broken' }
end
count.used = math.max(count.used - left, 0)
local parts = {}
for _, part in ipairs(count.parts) do
    local back = math.min(left, part[2])
    part[2], left = part[2] - back, left - back
    if part[2] > 0 then
        parts[#parts + 1] = part
    end
end
count.parts = parts
redis.call('HSET', KEYS[1], name, write(count))
return { 'done' }
