-- KEYS: meta, changes, nodes. Removes entries of the log that every node has acknowledged, but not the last of these, which
-- is a cursor. Bounded: whole blocks of the stream, some thousand entries in all. Answers how many it removed.
local oldest
local fields = redis.call('HGETALL', KEYS[3])
local acknowledged = {}
for i = 1, #fields, 2 do
    acknowledged[fields[i]] = fields[i + 1]
end
for field in pairs(acknowledged) do
    if string.sub(field, 1, 10) == 'heartbeat:' then
        local epoch = acknowledged['acknowledged:' .. string.sub(field, 11)]
        if not epoch or not string.find(epoch, '^%d+$') then
            epoch = '0'
        end
        if not oldest or is_less(epoch, oldest) then
            oldest = epoch
        end
    end
end
oldest = oldest or redis.call('HGET', KEYS[1], 'epoch') or '0'
return { 'done', tostring(redis.call('XTRIM', KEYS[2], 'MINID', '~', oldest .. '-0', 'LIMIT', 1000)) }
