-- Entries of the audit log as they are in another store, the oldest first. KEYS: the audit log, its index. ARGV: the id of the entry that was
-- added last here, or nothing; and for each entry its id in the stream, and the values of its fields. Answers `changed` if another one was
-- added last. Nothing is written then.
local audit, audit_index = KEYS[1], KEYS[2]
local info, newest = redis.call('EXISTS', audit) == 1 and redis.call('XINFO', 'STREAM', audit) or {}, ''
for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
        newest = info[i + 1]
    end
end
redis.call('ZRANGE', audit_index, 0, 0)
if ARGV[1] ~= newest then
    return { 'changed' }
end
for i = 2, #ARGV, 11 do
    local id, key, owner, former_owner, actor = ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
    redis.call('XADD', audit, id, 'action', ARGV[i + 1], 'key', key, 'owner', owner, 'former_owner', former_owner,
        'actor', actor, 'channel', ARGV[i + 6], 'address', ARGV[i + 7], 'request_id', ARGV[i + 8],
        'reason', ARGV[i + 9], 'fields', ARGV[i + 10])
    for _, member in ipairs(audit_members(id, key, owner, former_owner, actor)) do
        redis.call('ZADD', audit_index, 0, member)
    end
end
return { 'done' }
