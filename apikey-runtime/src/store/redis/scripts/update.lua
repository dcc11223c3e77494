-- ARGV: the id, the expected version or nothing, how many of the rest are fields with values, those,
-- and fields to clear.
local id, expected, last, record = ARGV[3], ARGV[4], 5 + ARGV[5], KEYS[7]
if redis.call('EXISTS', record) == 0 then
    return { 'not_found' }
end
if expected ~= '' and redis.call('HGET', record, 'version') ~= expected then
    return { 'conflict' }
end

local before, number, revoked_at = unpack(redis.call('HMGET', record, 'owner', 'owner_revocations', 'revoked_at'))
local after = before
for i = 6, last, 2 do
    if ARGV[i] == 'owner' then
        after = ARGV[i + 1]
    end
end
for i = last + 1, #ARGV do
    if ARGV[i] == 'owner' then
        after = false
    end
end
local state, stays, at, reason
if before and after ~= before then
    state = read_owner(before)
    if not state then
        return { 'unreadable_owner' }
    end
    -- A key that its present owner's revocation ended stays there. If it is not yet marked, it is revoked in its own record.
    number = number_of_key(before, number)
    stays = is_less(number, state.revocations)
    if stays and not revoked_at then
        at, reason = owner_revocation(before, number, state)
    end
end
local comes = after and after ~= before and not stays
if comes then
    state = read_owner(after)
    if not state then
        return { 'unreadable_owner' }
    end
end

append_change(id, 'key')
unindex_record(record, id)
if last > 5 then
    redis.call('HSET', record, unpack(ARGV, 6, last))
end
if #ARGV > last then
    redis.call('HDEL', record, unpack(ARGV, last + 1))
end
if stays then
    redis.call('HSET', record, 'owner', before)
elseif after ~= before then
    redis.call('HDEL', record, 'owner_revocations')
end
if at then
    set_revoked(record, id, at, reason)
end
if comes then
    join_owner(record, after, state)
end
increment_version(record)
index_record(record, id)
notify()
return { 'done' }
