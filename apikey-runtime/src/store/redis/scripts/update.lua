-- ARGV: after those of options.lua, the id, how many of the rest are fields with values, those, and fields to clear.
local id, last, record = ARGV[4], 5 + ARGV[5], KEYS[9]
local before = fields_of(redis.call('HGETALL', record))
local refused = refusal(before)
if refused then
    return { refused }
end

local after = copy_of(before)
for i = 6, last, 2 do
    after[ARGV[i]] = ARGV[i + 1]
end
for i = last + 1, #ARGV do
    after[ARGV[i]] = nil
end
local state, stays
if before.owner and after.owner ~= before.owner then
    state = read_owner(before.owner)
    if not state then
        return { 'unreadable_owner' }
    end
    -- A key that its present owner's revocation ended stays there. If it is not yet marked, it is revoked in its own record.
    local number = number_of_key(before.owner, before.owner_revocations)
    stays = is_less(number, state.revocations)
    if stays then
        after.owner = before.owner
        if not before.revoked_at then
            after.revoked_at, after.revoked_reason = owner_revocation(before.owner, number, state)
        end
    end
end
local comes = after.owner and after.owner ~= before.owner
if comes or (after.owner and options.max) then
    state = read_owner(after.owner)
    if not state then
        return { 'unreadable_owner' }
    end
end
if after.owner ~= before.owner then
    after.owner_revocations = comes and owner_number(after.owner, state) or nil
end
if after.owner and options.max and is_live(after, state) and (comes or not is_live(before, state)) then
    local denial = check_live_keys(after.owner, state)
    if denial then
        return denial
    end
end
local removed, added = changed_entries(id, before, after)
if not removed then
    return { 'fold', added }
end

local changes, count = shown_changes(before, after)
local is_switched = changes.enabled or changes.enabled_at
local action = 'updated'
local is_rotated = before.digest ~= after.digest or before.digest_end ~= after.digest_end
if after.revoked_at and not before.revoked_at then
    action = 'revoked'
elseif is_rotated then
    action = 'rotated'
elseif after.enabled == '1' and is_switched and count == (changes.enabled and changes.enabled_at and 2 or 1) then
    action = 'enabled'
elseif after.enabled ~= '1' and changes.enabled and count == 1 then
    action = 'disabled'
end
append_change(id, 'key')
add_to_audit(action, id, after.owner, before.owner, changes)
remove_entries(removed)
if last > 5 then
    redis.call('HSET', record, unpack(ARGV, 6, last))
end
if #ARGV > last then
    redis.call('HDEL', record, unpack(ARGV, last + 1))
end
if stays then
    redis.call('HSET', record, 'owner', after.owner)
elseif after.owner ~= before.owner then
    redis.call('HDEL', record, 'owner_revocations')
end
if after.revoked_at ~= before.revoked_at then
    set_revoked(record, id, after.revoked_at, after.revoked_reason, after.expires_at)
end
if comes then
    join_owner(record, after.owner, state)
end
if is_rotated then
    increment(record, 'rotations')
end
increment(record, 'version')
add_entries(added)
if after.expires_at ~= before.expires_at then
    replace_notice(record, id, before.notice, after.expires_at, sortable(now_millis()))
else
    complete_notice(record, id, before.expires_at, before.notice, before.created_at)
end
set_purge_time(id, { after.revoked_at or false, after.expires_at or false })
notify()
return { 'done' }
