-- Fields of hashes of keys, as they are in another store. KEYS: for each hash the record of its key, and the hash. ARGV: for each hash
-- how many texts follow, and fields with their values. A field of a key without a record is not written.
local place = 1
for i = 1, #KEYS, 2 do
    local last = place + tonumber(ARGV[place])
    if redis.call('EXISTS', KEYS[i]) == 1 then
        redis.call('HSET', KEYS[i + 1], unpack(ARGV, place + 1, last))
    end
    place = last + 1
end
return { 'done' }
