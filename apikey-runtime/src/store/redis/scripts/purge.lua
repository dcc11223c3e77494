-- One step: the records that the caller found in the purge index. KEYS: after those of audit.lua, the last uses of keys;
-- records, each with its limit counters; and the networks of each. ARGV: after those of options.lua, the time, and the ids of
-- the records. Answers how many of them stay in the index before the time, and the ids of those that were removed; or the
-- labels that have to be folded.
local before, last_used = ARGV[4], KEYS[9]

local function is_over(time)
    return time and string.find(time, '^%-?%d+$') and is_less(time, before)
end

local function delete_counters(id, counters, networks)
    redis.call('DEL', counters, networks)
    redis.pcall('HDEL', last_used, id)
end

local found, folds = {}, { 'fold' }
for i = 5, #ARGV do
    -- A key of another type is not a record, and stays.
    local list = redis.pcall('HGETALL', KEYS[2 * i])
    local fields = not list.err and fields_of(list)
    local entries, label = {}, nil
    if fields then
        entries, label = index_entries(ARGV[i], fields)
    end
    folds[#folds + 1] = label
    found[i] = { fields = fields, entries = entries, is_other = list.err }
end
if #folds > 1 then
    return folds
end

local kept, answer = 0, { 'done', '0' }
for i = 5, #ARGV do
    local id, record, counters = ARGV[i], KEYS[2 * i], KEYS[2 * i + 1]
    local networks = KEYS[#KEYS - #ARGV + i]
    local fields, entries = found[i].fields, found[i].entries
    if found[i].is_other then
        kept = kept + 1
    elseif not fields then
        redis.call('ZREM', purge_index, id)
        remove_entries({ 'i' .. id })
        delete_counters(id, counters, networks)
    elseif is_over(fields.revoked_at) or is_over(fields.expires_at) then
        append_change(id, 'key')
        add_to_audit('purged', id, fields.owner, fields.owner, shown_changes(fields, {}))
        remove_entries(entries)
        remove_notice_entry(id, fields.notice)
        redis.call('ZREM', purge_index, id)
        redis.call('DEL', record)
        delete_counters(id, counters, networks)
        answer[#answer + 1] = id
    else
        -- Its times were changed by hand, or are so large that the index rounds them.
        local first = set_purge_time(id, { fields.revoked_at or false, fields.expires_at or false })
        if first and tonumber(first) <= tonumber(before) then
            kept = kept + 1
        end
    end
end
if #answer > 2 then
    notify()
end
answer[2] = tostring(kept)
return answer
