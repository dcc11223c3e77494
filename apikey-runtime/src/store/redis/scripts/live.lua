-- Returns what the entries of an owner's live keys begin with; they continue with the expiry, or the last possible time.
local function live_stem(hash, number)
    return 'v' .. hash .. sortable(number)
end

local function live_entry(id, fields, hash)
    hash = hash or hash_of(fields.owner)
    local number = number_of_key(fields.owner, fields.owner_revocations)
    return live_stem(hash, number) .. (sortable(fields.expires_at) or string.rep('\255', 8)) .. id
end

-- Returns the bounds of the entries of an owner's keys that are live now.
local function live_range(owner, state)
    local stem = live_stem(hash_of(owner), state.revocations)
    return '(' .. stem .. sortable(now_millis()) .. '\255', '(' .. stem .. string.rep('\255', 9)
end

local function is_live(fields, state)
    local expires_at = fields.expires_at
    return not fields.revoked_at and not is_less(number_of_key(fields.owner, fields.owner_revocations), state.revocations)
        and (not expires_at or is_less(now_millis(), expires_at))
end

