-- ARGV: the id, and fields with their values.
local id, record = ARGV[3], KEYS[5]
if redis.call('EXISTS', record) == 1 then
    return { 'conflict' }
end
append_change(id, 'key')
redis.call('HSET', record, unpack(ARGV, 4))
index_record(record, id)
notify()
return { 'done' }
