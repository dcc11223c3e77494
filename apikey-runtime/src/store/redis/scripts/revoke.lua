-- ARGV: the id, when, and the reason, if one was given.
local id, record = ARGV[3], KEYS[5]
if redis.call('EXISTS', record) == 0 then
    return { 'not_found' }
end
local times = redis.call('HMGET', record, 'revoked_at', 'expires_at')
if times[1] then
    return { 'already_revoked' }
end
revoke(record, id, ARGV[4], ARGV[5], times[2])
notify()
return { 'done' }
