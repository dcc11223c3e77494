-- The audit log. KEYS: after those of record_keys.lua, its stream and its index.
local audit, audit_index = KEYS[7], KEYS[8]

-- What entries show of a record: never a digest.
local SHOWN = { 'created_at', 'created_by', 'description', 'enabled', 'enabled_at', 'environment', 'expires_at', 'label', 'limits', 'metadata',
    'methods', 'networks', 'not_before', 'owner', 'prefix', 'previous_until', 'revoked_at', 'revoked_reason', 'scopes' }

local function shown(fields, name)
    if name == 'limits' and fields.limits then
        return fields.limits .. (fields.limits_end or '')
    end
    return fields[name]
end

-- Returns what differs, and in how many fields.
local function shown_changes(before, after)
    local changes, count = {}, 0
    for _, name in ipairs(SHOWN) do
        local old, new = shown(before, name), shown(after, name)
        if old ~= new then
            changes[name] = { old or cjson.null, new or cjson.null }
            count = count + 1
        end
    end
    return changes, count
end

-- Adds an entry: before the change, which is then not made if this fails. Each entry has the same fields in the same order, so
-- that the stream keeps their names once for many entries.
local function add_to_audit(action, id, owner, former_owner, changes)
    -- Fails before the first write if the index is of another type.
    redis.call('ZRANGE', audit_index, 0, 0)
    local origin = options.origin
    owner = owner and '=' .. owner or ''
    former_owner = former_owner and '=' .. former_owner or ''
    if former_owner == owner then
        former_owner = ''
    end
    local actor = origin.actor or ''
    local position = redis.call('XADD', audit, '*', 'action', action, 'key', id, 'owner', owner, 'former_owner', former_owner,
        'actor', actor, 'channel', origin.channel, 'address', origin.address or '', 'request_id', origin.request_id or '',
        'reason', origin.reason or '', 'fields', cjson.encode(changes))
    for _, member in ipairs(audit_members(position, id, owner, former_owner, actor)) do
        redis.call('ZADD', audit_index, 0, member)
    end
end

