-- KEYS: meta, changes, nodes, owners. ARGV: the cursor's epoch, or nothing, and its tag; the node, or nothing.
local since, node = ARGV[1], ARGV[3]
local epoch, tag, lease, protocol = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'tag', 'lease_ms', 'required_protocol'))
if not epoch then
    return { 'no_history' }
end
local member = '0'
if node ~= '' and redis.call('HEXISTS', KEYS[3], 'heartbeat:' .. node) == 1
    and redis.call('HEXISTS', KEYS[3], 'suspected:' .. node) == 0 then
    member = '1'
end
local answer = { 'done', epoch, tag or '', lease or '', protocol or '1', member, 'resync' }
if since == '' then
    return answer
end
if since == epoch and ARGV[2] == tag then
    answer[7] = 'entries'
    return answer
end
-- The cursor's own row, and a page of those after it. The caller looks whether one is missing.
local rows = redis.call('XRANGE', KEYS[2], since .. '-0', '+', 'COUNT', 1001)
local first = rows[1]
if not first or first[1] ~= since .. '-0' or first[2][2] ~= ARGV[2] then
    return answer
end
answer[7] = 'entries'
answer[8] = rows[#rows][2][2]
for i = 2, #rows do
    local fields = rows[i][2]
    local subject, owner, state = fields[4] or '', fields[8], ''
    if fields[6] == 'owner' and owner then
        subject, state = owner, redis.call('HGET', KEYS[4], owner) or ''
    end
    answer[#answer + 1] = rows[i][1]
    answer[#answer + 1] = subject
    -- Entries of the first release have no kind.
    answer[#answer + 1] = fields[6] or (fields[4] == '' and 'member' or 'key')
    answer[#answer + 1] = state
end
return answer
