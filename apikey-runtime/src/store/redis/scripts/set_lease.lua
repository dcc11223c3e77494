-- ARGV: the lease that is wanted. A longer one takes effect at once; after a shorter one, nodes may hold the longest for
-- a while.
local wanted = ARGV[3]
local now = redis.call('HMGET', meta, 'lease_ms', 'longest_lease_ms')
if wanted ~= now[1] then
    redis.call('HSET', meta, 'lease_ms', wanted)
    redis.call('HINCRBY', meta, 'lease_version', 1)
    if tonumber(wanted) > (tonumber(now[2] or '') or 0) then
        redis.call('HSET', meta, 'longest_lease_ms', wanted)
    end
end
return { 'done' }
