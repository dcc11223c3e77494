-- ARGV: the owner; 1 if it is known to have keys, which may be those of an older release; the schema and the protocol.
local owner = ARGV[3]
local state = read_owner(owner)
if not state then
    return { 'unreadable_owner' }
end
if not state.is_stored and ARGV[4] ~= '1' then
    return { 'unknown_owner' }
end

local function save_owner()
    raise_versions(ARGV[5], ARGV[6])
    append_change('', 'owner', owner)
    state.version = next_number(state.version)
    redis.call('HSET', owners, owner, owner_text(state))
    notify()
end

