-- Not replicated and not written to the disk, for which with `appendfsync always` all later calls would wait too: if an
-- acknowledgement is lost in a crash, others wait for the lease to end.
redis.set_repl(redis.REPL_NONE)
-- KEYS: the nodes, third. ARGV: the node, the cursor's epoch, its tag.
local nodes, node, epoch = KEYS[3], ARGV[3], ARGV[4]
if redis.call('HEXISTS', nodes, 'heartbeat:' .. node) == 0 then
    return { 'done' }
end
redis.call('HINCRBY', nodes, 'heartbeat:' .. node, 1)
local head = redis.call('HMGET', meta, 'epoch', 'tag')
local row = redis.call('XRANGE', log, epoch .. '-0', epoch .. '-0')[1]
local is_ours = (head[1] == epoch and head[2] == ARGV[5]) or (row and row[2][2] == ARGV[5])
local acknowledged = redis.call('HGET', nodes, 'acknowledged:' .. node)
if is_ours and tonumber(epoch) > (tonumber(acknowledged or '') or 0) then
    redis.call('HSET', nodes, 'acknowledged:' .. node, epoch)
end
return { 'done' }
