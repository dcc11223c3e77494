-- Records as they are in another store. KEYS: those of record_keys.lua, and the records. ARGV: after those of options.lua, for each
-- record its id; the version that it has here, or nothing if it does not exist; the number of revocations of its owner that it has;
-- how many texts follow, and fields with their values. Answers `changed` if a version is another one; or the labels that have to be
-- folded. Nothing is written then.
local changes, folds, place = {}, { 'fold' }, 4
for i = 7, #KEYS do
    local id, version, number, count = ARGV[place], ARGV[place + 1], ARGV[place + 2], tonumber(ARGV[place + 3])
    local after = fields_of({ unpack(ARGV, place + 4, place + 3 + count) }) or {}
    place = place + 4 + count
    local before = fields_of(redis.call('HGETALL', KEYS[i]))
    if version ~= (before and before.version or '') then
        return { 'changed' }
    end
    after.owner_revocations = after.owner and number ~= '0' and number .. ':' .. owner_tag(after.owner) or nil
    after.notice = before and before.notice
    local removed, added = {}, nil
    if before then
        removed, added = changed_entries(id, before, after)
    else
        local label
        added, label = index_entries(id, after)
        if not added then
            removed, added = nil, label
        end
    end
    if removed then
        changes[#changes + 1] = { record = KEYS[i], id = id, before = before or {}, after = after, removed = removed, added = added }
    else
        folds[#folds + 1] = added
    end
end
if #folds > 1 then
    return folds
end

append_change('', 'all')
for _, change in ipairs(changes) do
    local record, after, values = change.record, change.after, {}
    for name, value in pairs(after) do
        values[#values + 1] = name
        values[#values + 1] = value
    end
    remove_entries(change.removed)
    redis.call('DEL', record)
    redis.call('HSET', record, unpack(values))
    if after.owner then
        if redis.call('HEXISTS', owners, after.owner) == 0 then
            redis.call('HSET', owners, after.owner, '1 0 0')
        end
        redis.call('ZADD', index, 0, 'p' .. after.owner)
    end
    add_entries(change.added)
    complete_notice(record, change.id, after.expires_at, after.notice, after.created_at)
    set_purge_time(change.id, { after.revoked_at or false, after.expires_at or false })
end
notify()
return { 'done' }
