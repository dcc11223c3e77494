#!lua
-- KEYS: meta, changes, nodes. ARGV: a new random tag, the channel, the lease, the longest possible lease, the schema, the
-- protocol that a node has to speak for a lease. If there is no history, starts a new one, which has nothing in common with
-- any before.
local meta, log, nodes, tag, lease = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[3]
if redis.call('HEXISTS', meta, 'epoch') == 1 then
    return { 'done' }
end
redis.call('DEL', log)
redis.call('XADD', log, '1-0', 'tag', tag, 'key_id', '', 'kind', 'all')
-- Existing nodes have followed another history, under a lease that is not known any more.
local longest = lease
for _, field in ipairs(redis.call('HKEYS', nodes)) do
    longest = ARGV[4]
    if string.sub(field, 1, 13) == 'acknowledged:' then
        redis.call('HSET', nodes, field, 0)
    end
end
redis.call('HSET', meta, 'schema', ARGV[5], 'required_protocol', ARGV[6])
redis.call('HSET', meta, 'epoch', 1, 'tag', tag, 'lease_ms', lease, 'longest_lease_ms', longest)
redis.call('HINCRBY', meta, 'lease_version', 1)
redis.pcall('PUBLISH', ARGV[2], '')
return { 'done' }
