-- ARGV: the id, when, and the reason, if one was given.
local id, record = ARGV[3], KEYS[7]
if redis.call('EXISTS', record) == 0 then
    return { 'not_found' }
end
local revoked_at, expires_at, owner, number =
    unpack(redis.call('HMGET', record, 'revoked_at', 'expires_at', 'owner', 'owner_revocations'))
-- If what stands for the owner cannot be read, the key is revoked all the same.
local state = owner and read_owner(owner)
if revoked_at or (state and is_less(number_of_key(owner, number), state.revocations)) then
    return { 'already_revoked' }
end
append_change(id, 'key')
set_revoked(record, id, ARGV[4], ARGV[5], expires_at)
increment_version(record)
notify()
return { 'done' }
