-- KEYS: the nodes, third. ARGV: the node; a random heartbeat to start with: a node that leaves and comes back does not repeat
-- a heartbeat that was seen before; the schema; and the protocol that the node speaks. The fields of a node are
-- `heartbeat:`, `acknowledged:`, `protocol:` (an older release has none) and, if it is suspected, `suspected:`, each
-- followed by its id.
local nodes, node = KEYS[3], ARGV[3]
raise_versions(ARGV[5], ARGV[6])
append_change('', 'member')
if redis.call('HEXISTS', nodes, 'heartbeat:' .. node) == 1 then
    redis.call('HINCRBY', nodes, 'heartbeat:' .. node, 1)
    redis.call('HDEL', nodes, 'suspected:' .. node)
else
    redis.call('HSET', nodes, 'heartbeat:' .. node, ARGV[4], 'acknowledged:' .. node, 0)
end
redis.call('HSET', nodes, 'protocol:' .. node, ARGV[6])
notify()
return { 'done' }
