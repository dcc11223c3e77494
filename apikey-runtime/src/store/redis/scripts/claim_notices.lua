-- One step of a claim. KEYS: those of record_keys.lua, the nodes, and the records of the entries. ARGV: after those of change_log.lua,
-- the node, and the entries that the caller found. Answers the ids and the notices of those that the node has claimed.
local nodes, node = KEYS[7], ARGV[3]

local function is_free(claimer)
    return claimer == '' or redis.call('HEXISTS', nodes, 'heartbeat:' .. claimer) == 0
end

local answer = { 'done' }
for i = 4, #ARGV do
    local entry, record = ARGV[i], KEYS[i + 4]
    local id = string.sub(entry, -22)
    -- A key of another type is not a record.
    local fields = redis.pcall('HMGET', record, 'expires_at', 'notice', 'created_at')
    local text = not fields.err and fields[2]
    local notice = notice_of(text)
    if not notice or notice_entry(id, notice) ~= entry then
        -- Another node was here meanwhile, or the record was removed by an older release.
        redis.call('ZREM', index, entry)
    elseif notice.ends ~= sortable(fields[1]) then
        complete_notice(record, id, fields[1], text, fields[3])
    elseif notice.node == node then
        answer[#answer + 1], answer[#answer + 2] = id, text
    elseif is_free(notice.node) then
        redis.call('ZREM', index, entry)
        notice.node = node
        answer[#answer + 1], answer[#answer + 2] = id, put_notice(record, id, notice)
    end
end
return answer
