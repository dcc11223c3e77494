#!lua
-- KEYS: the nodes. ARGV: the node, the heartbeat that was seen.
local nodes, node = KEYS[1], ARGV[1]
if redis.call('HGET', nodes, 'heartbeat:' .. node) == ARGV[2]
    and redis.call('HEXISTS', nodes, 'suspected:' .. node) == 1 then
    redis.call('HDEL', nodes, 'heartbeat:' .. node, 'acknowledged:' .. node, 'suspected:' .. node,
        'protocol:' .. node)
end
return { 'done' }
