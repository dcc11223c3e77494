-- Nobody waits for the disk, which with `appendfsync always` all that comes after would too: what is lost in a crash is that
-- others wait for the lease to end.
redis.set_repl(redis.REPL_NONE)
-- KEYS: the nodes, third. ARGV: the node, the cursor's epoch, its tag.
local nodes, node, epoch = KEYS[3], ARGV[3], ARGV[4]
if redis.call('HEXISTS', nodes, 'b' .. node) == 0 then
    return { 'done' }
end
redis.call('HINCRBY', nodes, 'b' .. node, 1)
local head = redis.call('HMGET', meta, 'epoch', 'tag')
local row = redis.call('XRANGE', log, epoch .. '-0', epoch .. '-0')[1]
local is_ours = (head[1] == epoch and head[2] == ARGV[5]) or (row and row[2][2] == ARGV[5])
local acknowledged = redis.call('HGET', nodes, 'a' .. node)
if is_ours and tonumber(epoch) > (tonumber(acknowledged or '') or 0) then
    redis.call('HSET', nodes, 'a' .. node, epoch)
end
return { 'done' }
