-- ARGV: the id, when, and the reason, if one was given.
local id, record = ARGV[3], KEYS[5]
if redis.call('EXISTS', record) == 0 then
    return { 'not_found' }
end
if redis.call('HEXISTS', record, 'revoked_at') == 1 then
    return { 'already_revoked' }
end
revoke(record, id, ARGV[4], ARGV[5])
notify()
return { 'done' }
