-- A key comes to an owner. Creates the owner's text with its first key.
local function join_owner(record, owner, state)
    if not state.is_stored then
        redis.call('HSET', owners, owner, owner_text(state))
    end
    if state.revocations ~= '0' then
        redis.call('HSET', record, 'owner_revocations', state.revocations .. ':' .. owner_tag(owner))
    end
end

