#!lua
-- KEYS: the nodes. ARGV: the node, the heartbeat that was seen.
if redis.call('HGET', KEYS[1], 'heartbeat:' .. ARGV[1]) == ARGV[2] then
    redis.call('HSET', KEYS[1], 'suspected:' .. ARGV[1], 1)
end
return { 'done' }
