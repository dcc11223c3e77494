-- ARGV: the owner, when, whether a reason follows, the reason, and the ids of the records in KEYS.
local owner, at, reason = ARGV[3], ARGV[4], ARGV[5] == '1' and ARGV[6] or nil
local given = {}
for i = 7, #ARGV do
    given[ARGV[i]] = true
end
local stem = index_member('o', owner, '')
for _, member in ipairs(redis.call('ZRANGE', index, '[' .. stem, '(' .. stem .. '\255', 'BYLEX')) do
    if not given[string.sub(member, #stem + 1)] then
        return { 'stale' }
    end
end
local answer = { 'done' }
for i = 7, #ARGV do
    local id, record = ARGV[i], KEYS[i - 2]
    if redis.call('HGET', record, 'owner') == owner
        and redis.call('HEXISTS', record, 'revoked_at') == 0 then
        revoke(record, id, at, reason)
        answer[#answer + 1] = id
    end
end
if #answer > 1 then
    notify()
end
return answer
