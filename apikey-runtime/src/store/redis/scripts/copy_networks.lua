-- Networks of keys, as they are in another store. KEYS: for each set the record of its key, and the set. ARGV: for how long networks
-- are kept; and for each set how many texts follow, and networks, each after its time. The 20 latest of a key stay.
local now = redis.call('TIME')
local ends, place = string.format('%.0f', tonumber(now[1]) * 1000 + tonumber(ARGV[1])), 2
for i = 1, #KEYS, 2 do
    local last = place + tonumber(ARGV[place])
    if redis.call('EXISTS', KEYS[i]) == 1 then
        redis.call('ZADD', KEYS[i + 1], unpack(ARGV, place + 1, last))
        redis.call('ZREMRANGEBYRANK', KEYS[i + 1], 0, -21)
        redis.call('PEXPIREAT', KEYS[i + 1], ends)
    end
    place = last + 1
end
return { 'done' }
