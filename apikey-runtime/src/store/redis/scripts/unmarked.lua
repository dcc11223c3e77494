-- KEYS: the owners whose keys are not all marked, the revocations of owners, the index. ARGV: at most how many keys. Answers
-- the next owner, and the ids of its next keys.
local owner = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
if not owner then
    return {}
end
local _, _, after = mark_position(KEYS[2], owner)
local answer = { owner }
for _, id in ipairs(index_range(KEYS[3], 'o', owner, after or '', ARGV[1])) do
    answer[#answer + 1] = id
end
return answer
