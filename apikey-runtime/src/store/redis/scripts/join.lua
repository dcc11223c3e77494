-- KEYS: the nodes, third. ARGV: the node, and a random heartbeat to start with: a node that leaves and comes back does
-- not repeat a heartbeat that was seen before. The fields of a node are `heartbeat:`, `acknowledged:` and, if it is
-- suspected, `suspected:`, each followed by its id.
local nodes, node = KEYS[3], ARGV[3]
append_change('', 'member')
if redis.call('HEXISTS', nodes, 'heartbeat:' .. node) == 1 then
    redis.call('HINCRBY', nodes, 'heartbeat:' .. node, 1)
    redis.call('HDEL', nodes, 'suspected:' .. node)
else
    redis.call('HSET', nodes, 'heartbeat:' .. node, ARGV[4], 'acknowledged:' .. node, 0)
end
notify()
return { 'done' }
