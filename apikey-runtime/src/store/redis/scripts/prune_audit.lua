-- KEYS: the audit log, its index. ARGV: the position before which entries are removed, and at most how many. Answers how many it
-- removed.
local entries = redis.call('XRANGE', KEYS[1], '-', '(' .. ARGV[1], 'COUNT', ARGV[2])
for _, entry in ipairs(entries) do
    local fields = {}
    for i = 1, #entry[2], 2 do
        fields[entry[2][i]] = entry[2][i + 1]
    end
    local members = audit_members(entry[1], fields.key or '', fields.owner or '', fields.former_owner or '', fields.actor or '')
    if #members > 0 then
        redis.call('ZREM', KEYS[2], unpack(members))
    end
end
if #entries > 0 then
    local millis, sequence = string.match(entries[#entries][1], '^(%d+)%-(%d+)$')
    redis.call('XTRIM', KEYS[1], 'MINID', '=', millis .. '-' .. string.format('%.0f', tonumber(sequence) + 1))
end
return { 'done', tostring(#entries) }
