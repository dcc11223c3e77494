#!lua
-- KEYS: the nodes. ARGV: the node, the beat that was seen.
if redis.call('HGET', KEYS[1], 'b' .. ARGV[1]) == ARGV[2] then
    redis.call('HSET', KEYS[1], 's' .. ARGV[1], 1)
end
return { 'done' }
