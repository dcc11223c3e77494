-- Returns what a record has as `owner_revocations` that comes to an owner: nothing is 0.
local function owner_number(owner, state)
    return state.revocations ~= '0' and state.revocations .. ':' .. owner_tag(owner) or nil
end

-- A key comes to an owner. Creates the owner's text with its first key. The entry is added with each: a process of an older
-- release writes the text without it.
local function join_owner(record, owner, state)
    if not state.is_stored then
        redis.call('HSET', owners, owner, owner_text(state))
    end
    redis.call('ZADD', index, 0, 'p' .. owner)
    set_or_clear(record, 'owner_revocations', owner_number(owner, state))
end

