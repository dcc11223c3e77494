-- KEYS: meta, changes, nodes. ARGV: the cursor's epoch, or nothing, and its tag; the node, or nothing.
local since, node = ARGV[1], ARGV[3]
local epoch, tag, lease = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'tag', 'lease_ms'))
if not epoch then
    return { 'no_history' }
end
local member = '0'
if node ~= '' and redis.call('HEXISTS', KEYS[3], 'heartbeat:' .. node) == 1
    and redis.call('HEXISTS', KEYS[3], 'suspected:' .. node) == 0 then
    member = '1'
end
local answer = { 'done', epoch, tag or '', lease or '', member, 'resync' }
if since == '' then
    return answer
end
if since == epoch and ARGV[2] == tag then
    answer[6] = 'entries'
    return answer
end
-- The cursor's own row, those after it, and one more, which tells that there are too many.
local rows = redis.call('XRANGE', KEYS[2], since .. '-0', '+', 'COUNT', 1002)
local first, last = rows[1], rows[#rows]
-- A log whose last row is not the present epoch has lost rows.
if not first or first[1] ~= since .. '-0' or first[2][2] ~= ARGV[2] or #rows > 1001
    or last[1] ~= epoch .. '-0' then
    return answer
end
answer[6] = 'entries'
for i = 2, #rows do
    answer[#answer + 1] = rows[i][2][4]
end
return answer
