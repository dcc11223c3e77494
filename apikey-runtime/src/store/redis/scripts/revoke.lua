-- ARGV: the id, when, and why, where that was said.
local id, record = ARGV[3], KEYS[5]
if redis.call('EXISTS', record) == 0 then
    return { 'missing' }
end
if redis.call('HEXISTS', record, 'revoked_at') == 1 then
    return { 'before' }
end
revoke(record, id, ARGV[4], ARGV[5])
tell()
return { 'done' }
