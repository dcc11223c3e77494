-- Usage as it is in another store. KEYS: the usage days; and for each hash the record of its key, and the hash. ARGV: for each hash its
-- day, when it expires, how many texts follow, and fields with their values. A hash of a key without a record is not written.
local place = 1
for i = 2, #KEYS, 2 do
    local day, ends, last = ARGV[place], ARGV[place + 1], place + 2 + tonumber(ARGV[place + 2])
    if redis.call('EXISTS', KEYS[i]) == 1 then
        redis.call('HSET', KEYS[i + 1], unpack(ARGV, place + 3, last))
        redis.call('PEXPIREAT', KEYS[i + 1], ends)
        redis.call('ZADD', KEYS[1], 'GT', ends, day)
    end
    place = last + 1
end
return { 'done' }
