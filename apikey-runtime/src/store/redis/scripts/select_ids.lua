-- KEYS: the index. ARGV: the kind of place, its text, after which id, at most how many.
local stem = ARGV[1]
if stem ~= 'i' then
    stem = stem .. string.sub(redis.sha1hex(ARGV[2]), 1, 16)
end
local from = '[' .. stem
if ARGV[3] ~= '' then
    from = '(' .. stem .. ARGV[3]
end
local ids = redis.call('ZRANGE', KEYS[1], from, '(' .. stem .. '\255', 'BYLEX', 'LIMIT', 0, ARGV[4])
for i = 1, #ids do
    ids[i] = string.sub(ids[i], #stem + 1)
end
return ids
