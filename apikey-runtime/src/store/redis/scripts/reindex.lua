-- Makes the entries of records: those that an older release has written, and those that an entry does not fit. An owner that
-- such a record names gets its text. The records read the same before and after it. KEYS: after those of record_keys.lua, the records. ARGV: after those of options.lua, for
-- each record an entry that does not fit, which is removed, and its id. Answers the labels that have to be folded.
local answer = { 'done' }
for i = 4, #ARGV, 2 do
    local entry, id = ARGV[i], ARGV[i + 1]
    local list = redis.pcall('HGETALL', KEYS[5 + i / 2])
    -- A key of another type is not a record, and listed as one that cannot be read.
    local fields = list.err and {} or fields_of(list)
    local entries, label = {}, nil
    if fields then
        entries, label = index_entries(id, fields)
    end
    if entries then
        remove_entries({ entry })
        add_entries(entries)
        if fields and not list.err then
            local owner = fields.owner
            if owner and redis.call('HEXISTS', owners, owner) == 0 then
                redis.call('HSET', owners, owner, '1 0 0')
                redis.call('ZADD', index, 0, 'p' .. owner)
            end
            complete_notice(KEYS[5 + i / 2], id, fields.expires_at, fields.notice, fields.created_at)
        end
    else
        answer[#answer + 1] = label
    end
end
return answer
