-- One step: the records that the caller found in the index. ARGV: the owner, when, whether a reason follows, the reason,
-- and the ids of the records in KEYS.
local owner, at, reason = ARGV[3], ARGV[4], ARGV[5] == '1' and ARGV[6] or nil
local answer = { 'done' }
for i = 7, #ARGV do
    local id, record = ARGV[i], KEYS[i - 2]
    -- A key of another type is not a record: skipped, since an error would come back with every attempt.
    local fields = redis.pcall('HMGET', record, 'owner', 'revoked_at', 'expires_at')
    if not fields.err and fields[1] == owner and not fields[2] then
        revoke(record, id, at, reason, fields[3])
        answer[#answer + 1] = id
    end
end
if #answer > 1 then
    notify()
end
return answer
