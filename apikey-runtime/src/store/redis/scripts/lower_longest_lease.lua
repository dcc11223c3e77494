-- ARGV: the lease, the longest and their version, as they were before the longest was waited out.
local now = redis.call('HMGET', meta, 'lease_ms', 'longest_lease_ms', 'lease_version')
if now[1] == ARGV[3] and now[2] == ARGV[4] and (now[3] or '') == ARGV[5] then
    redis.call('HSET', meta, 'longest_lease_ms', now[1])
end
return { 'done' }
