-- One step, which takes no epoch: the records read the same before and after it. KEYS: after those of record_keys.lua, the owners
-- whose keys are not all marked, and the records that the caller found. ARGV: how many these are at most, the owner, and
-- their ids. Answers whether more is left.
local count, owner, queue = ARGV[3], ARGV[4], KEYS[7]

local function answer()
    return { 'done', tostring(redis.call('EXISTS', queue)) }
end

local state = read_owner(owner)
local first, last, after = mark_position(revocations, owner)
-- Without a position, another node has done the rest. Without a text that can be read, its keys cannot be read either.
if not state or not first then
    redis.call('ZREM', queue, owner)
    return answer()
end
local ids = index_range(index, 'o', owner, after, count)
-- Another node was here meanwhile, or the data was restored.
if #ids ~= #ARGV - 4 then
    return answer()
end
for i, id in ipairs(ids) do
    if id ~= ARGV[i + 4] then
        return answer()
    end
end

for i, id in ipairs(ids) do
    local record = KEYS[i + 7]
    -- A key of another type is not a record.
    local fields = redis.pcall('HMGET', record, 'owner', 'owner_revocations', 'revoked_at', 'expires_at')
    if not fields.err and fields[1] == owner and not fields[3] then
        local at, reason = owner_revocation(owner, number_of_key(owner, fields[2]), state)
        if at then
            remove_entries({ live_entry(id, { owner = owner, owner_revocations = fields[2], expires_at = fields[4] }) })
            set_revoked(record, id, at, reason, fields[4])
        end
    end
end
local place = ids[#ids]
if #ids < tonumber(count) then
    -- All keys are marked. The revocations are removed in steps too.
    place = after
    local removed = 0
    for _ = 1, count do
        if is_less(last, first) then
            break
        end
        removed = removed + redis.call('HDEL', revocations, first .. ':' .. owner)
        first = next_number(first)
    end
    -- The count was raised by hand, by more than a step.
    if removed == 0 and is_less(first, last) then
        first = last
    end
    if is_less(last, first) and is_less(last, state.revocations) then
        -- Those that came meanwhile: the next pass is theirs.
        last, place = state.revocations, ''
    end
end
if is_less(last, first) then
    redis.call('HDEL', revocations, ':' .. owner)
    redis.call('ZREM', queue, owner)
else
    redis.call('HSET', revocations, ':' .. owner, first .. ' ' .. last .. ' ' .. place)
end
return answer()
