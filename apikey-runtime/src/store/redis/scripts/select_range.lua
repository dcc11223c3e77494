-- KEYS: those of record_keys.lua. ARGV: the kind of entry; 1 and an owner, or 0 and nothing; the lower and the upper bound of what
-- follows, each after `(` or `[`; 1 if the last come first; at most how many. Answers what all entries begin with; the rest of
-- each; and an entry of an older release whose record is to be indexed, if there is one.
local stem = ARGV[1]
if ARGV[2] == '1' then
    stem = stem .. string.sub((hash_of(ARGV[3])), 1, 8)
end

local function bound(text)
    return string.sub(text, 1, 1) .. stem .. string.sub(text, 2)
end

local low, high = bound(ARGV[4]), bound(ARGV[5])
local entries
if ARGV[6] == '1' then
    entries = redis.call('ZRANGE', index, high, low, 'BYLEX', 'REV', 'LIMIT', 0, ARGV[7])
else
    entries = redis.call('ZRANGE', index, low, high, 'BYLEX', 'LIMIT', 0, ARGV[7])
end
for i, entry in ipairs(entries) do
    entries[i] = string.sub(entry, #stem + 1)
end
return { { stem }, entries, redis.call('ZRANGE', index, '[l', '(m', 'BYLEX', 'LIMIT', 0, 1) }
