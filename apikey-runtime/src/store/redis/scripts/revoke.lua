-- ARGV: after those of options.lua, the id, when, and the reason, if one was given.
local id, record = ARGV[4], KEYS[9]
local before = fields_of(redis.call('HGETALL', record))
local refused = refusal(before)
if refused then
    return { refused }
end
local owner = before.owner
-- If what stands for the owner cannot be read, the key is revoked all the same.
local state = owner and read_owner(owner)
if before.revoked_at or (state and is_less(number_of_key(owner, before.owner_revocations), state.revocations)) then
    return { 'already_revoked' }
end
local after = copy_of(before)
after.revoked_at, after.revoked_reason = ARGV[5], ARGV[6]
append_change(id, 'key')
add_to_audit('revoked', id, owner, owner, shown_changes(before, after))
set_revoked(record, id, ARGV[5], ARGV[6], before.expires_at or false)
if owner then
    -- A revocation does not depend on the index: an entry that stays is compared with the record.
    redis.pcall('ZREM', index, live_entry(id, before))
end
set_or_clear(record, 'updated_by', options.origin.actor)
increment(record, 'version')
notify()
return { 'done' }
