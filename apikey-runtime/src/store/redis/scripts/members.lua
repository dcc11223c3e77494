-- KEYS: meta, changes, nodes.
local epoch, tag, longest = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'tag', 'longest_lease_ms'))
if not epoch then
    return { 'no_history' }
end
local answer = { 'done', epoch, tag or '', longest or '' }
for _, text in ipairs(redis.call('HGETALL', KEYS[3])) do
    answer[#answer + 1] = text
end
return answer
