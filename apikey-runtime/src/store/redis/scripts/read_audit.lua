-- KEYS: the audit log, its index. ARGV: the kind of member, or nothing for all entries; its text; the first position, the position
-- before which to read, and at most how many. Answers ids and fields, the newest first. An entry that is missing has no fields.
local first, before, count = ARGV[3], ARGV[4], ARGV[5]
if ARGV[1] == '' then
    return redis.call('XREVRANGE', KEYS[1], '(' .. before, first, 'COUNT', count)
end
local low, high = audit_member(ARGV[1], ARGV[2], first), audit_member(ARGV[1], ARGV[2], before)
local entries = redis.call('ZRANGE', KEYS[2], '(' .. high, '[' .. low, 'BYLEX', 'REV', 'LIMIT', 0, count)
for i, member in ipairs(entries) do
    local millis, sequence = struct.unpack('>I6I4', string.sub(member, 10))
    local position = string.format('%.0f-%.0f', millis, sequence)
    entries[i] = redis.call('XRANGE', KEYS[1], position, position)[1] or { position, {} }
end
return entries
