#!lua
-- KEYS: the nodes. ARGV: the node, the beat that was seen.
local node = ARGV[1]
if redis.call('HGET', KEYS[1], 'b' .. node) == ARGV[2]
    and redis.call('HEXISTS', KEYS[1], 's' .. node) == 1 then
    redis.call('HDEL', KEYS[1], 'b' .. node, 'a' .. node, 's' .. node)
end
return { 'done' }
