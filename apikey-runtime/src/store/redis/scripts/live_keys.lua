-- KEYS: those of record_keys.lua. ARGV: the owner, and at most how many entries to answer. Answers how many keys of the owner are
-- live, its number of revocations, and entries of these keys.
local state = read_owner(ARGV[1])
if not state then
    return { 'unreadable_owner' }
end
if #redis.call('ZRANGE', index, '[l', '(m', 'BYLEX', 'LIMIT', 0, 1) > 0 then
    return { 'unindexed' }
end
local low, high = live_range(ARGV[1], state)
local answer = { 'done', tostring(redis.call('ZLEXCOUNT', index, low, high)), state.revocations }
if ARGV[2] ~= '0' then
    for _, entry in ipairs(redis.call('ZRANGE', index, low, high, 'BYLEX', 'LIMIT', 0, ARGV[2])) do
        answer[#answer + 1] = entry
    end
end
return answer
