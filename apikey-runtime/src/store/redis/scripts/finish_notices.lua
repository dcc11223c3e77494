-- KEYS: those of record_keys.lua, and the records. ARGV: after those of change_log.lua, the node; and for each record the id, the expiry
-- that the notice is of, and what it is planned for, or nothing if it is finished for good.
local node = ARGV[3]
for i = 4, #ARGV, 3 do
    local id, ends, planned, record = ARGV[i], ARGV[i + 1], ARGV[i + 2], KEYS[6 + (i - 1) / 3]
    local text = redis.pcall('HGET', record, 'notice')
    local notice = type(text) == 'string' and notice_of(text)
    if notice and notice.node == node and notice.ends == ends then
        remove_notice_entry(id, text)
        if planned ~= '' then
            notice.planned, notice.node = planned, ''
            put_notice(record, id, notice)
        else
            redis.call('HSET', record, 'notice', ends)
        end
    end
end
return { 'done' }
