-- KEYS: the index, the owners. ARGV: the bounds, and at most how many. Answers names of owners, each with its text.
local answer = {}
for _, entry in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'BYLEX', 'LIMIT', 0, ARGV[3])) do
    local owner = string.sub(entry, 2)
    answer[#answer + 1] = owner
    answer[#answer + 1] = redis.call('HGET', KEYS[2], owner) or '1 0 0'
end
return answer
