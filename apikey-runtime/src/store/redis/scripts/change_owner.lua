-- ARGV: after those of options.lua, the owner; 1 if it is known to have keys, which may be those of an older release; the
-- schema and the protocol.
local owner = ARGV[4]
local state = read_owner(owner)
if not state then
    return { 'unreadable_owner' }
end
if not state.is_stored and ARGV[5] ~= '1' then
    return { 'unknown_owner' }
end

local function save_owner(action, field, before, after)
    raise_versions(ARGV[6], ARGV[7])
    append_change('', 'owner', owner)
    add_to_audit(action, '', owner, nil, { [field] = { before, after } })
    state[field] = after
    state.version = next_number(state.version)
    redis.call('HSET', owners, owner, owner_text(state))
    if not state.is_stored then
        redis.call('ZADD', index, 0, 'p' .. owner)
    end
    notify()
end

