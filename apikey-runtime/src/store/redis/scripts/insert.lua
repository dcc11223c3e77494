-- ARGV: the id, and fields with their values.
local id, record = ARGV[3], KEYS[7]
if redis.call('EXISTS', record) == 1 then
    return { 'conflict' }
end
local owner, state
for i = 4, #ARGV, 2 do
    if ARGV[i] == 'owner' then
        owner = ARGV[i + 1]
        state = read_owner(owner)
    end
end
if owner and not state then
    return { 'unreadable_owner' }
end
append_change(id, 'key')
redis.call('HSET', record, unpack(ARGV, 4))
if owner then
    join_owner(record, owner, state)
end
index_record(record, id)
notify()
return { 'done' }
