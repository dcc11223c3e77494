-- KEYS: the nodes, third. ARGV: the node, and a random beat to start with: one that leaves and comes
-- back has no beat that was seen before. The fields of a node are its beat (b), what it has
-- acknowledged (a) and whether it is suspected (s).
local nodes, node = KEYS[3], ARGV[3]
note('')
if redis.call('HEXISTS', nodes, 'b' .. node) == 1 then
    redis.call('HINCRBY', nodes, 'b' .. node, 1)
    redis.call('HDEL', nodes, 's' .. node)
else
    redis.call('HSET', nodes, 'b' .. node, ARGV[4], 'a' .. node, 0)
end
tell()
return { 'done' }
