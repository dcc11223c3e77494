-- ARGV: after those of options.lua, the id, and fields with their values.
local id, record, values = ARGV[4], KEYS[9], { unpack(ARGV, 5) }
if redis.call('EXISTS', record) == 1 then
    return { 'conflict' }
end
local fields = fields_of(values)
local owner = fields.owner
local state = owner and read_owner(owner)
if owner and not state then
    return { 'unreadable_owner' }
end
if owner then
    fields.owner_revocations = owner_number(owner, state)
    if options.max and is_live(fields, state) then
        local denial = check_live_keys(owner, state)
        if denial then
            return denial
        end
    end
end
local entries = index_entries(id, fields)
append_change(id, 'key')
add_to_audit('created', id, owner, nil, shown_changes({}, fields))
redis.call('HSET', record, unpack(values))
if owner then
    join_owner(record, owner, state)
end
add_entries(entries)
replace_notice(record, id, nil, fields.expires_at, sortable(now_millis()))
set_purge_time(id, { fields.revoked_at or false, fields.expires_at or false })
notify()
return { 'done' }
