-- Notices before the end of keys. A record that expires has the field `notice`: the expiry that it is of, since when, for when it is
-- planned (a byte 0, or a byte 1 and the time), and the node that has claimed it, if one has; times take 8 bytes. Of a notice that
-- is finished for good, the first 8 bytes stay. Each other notice has an entry in the index:
--   `n`, what it is planned for, id: it is not claimed
--   `h`, the node, what it is planned for, id: that node has claimed it
-- An older release changes records and leaves both as they are, so an entry is compared with its record.
local UNPLANNED = '\0'

local function notice_of(text)
    if not text or #text < 17 then
        return nil
    end
    local stop = string.sub(text, 17, 17) == UNPLANNED and 17 or 25
    return { ends = string.sub(text, 1, 8), since = string.sub(text, 9, 16), planned = string.sub(text, 17, stop),
        node = string.sub(text, stop + 1) }
end

local function notice_entry(id, notice)
    return (notice.node == '' and 'n' or 'h' .. notice.node) .. notice.planned .. id
end

local function remove_notice_entry(id, text)
    local notice = notice_of(text)
    if notice then
        redis.call('ZREM', index, notice_entry(id, notice))
    end
end

-- Returns the text of the notice.
local function put_notice(record, id, notice)
    local text = notice.ends .. notice.since .. notice.planned .. notice.node
    redis.call('HSET', record, 'notice', text)
    redis.call('ZADD', index, 0, notice_entry(id, notice))
    return text
end

-- Puts a new notice in the place of this one. Without an expiry, or with one that is not a time, there is none.
local function replace_notice(record, id, text, expires_at, since)
    remove_notice_entry(id, text)
    local ends = sortable(expires_at)
    if ends then
        put_notice(record, id, { ends = ends, since = since, planned = UNPLANNED, node = '' })
    elseif text then
        redis.call('HDEL', record, 'notice')
    end
end

-- Adds or corrects the notice of a record that an older release has written. When its expiry was set is not known: not before its
-- creation, and if there is a notice of another expiry, after that was made.
local function complete_notice(record, id, expires_at, text, created_at)
    local ends = sortable(expires_at)
    if (ends or text) and string.sub(text or '', 1, 8) ~= ends then
        local since = text and now_millis() or created_at
        replace_notice(record, id, text, expires_at, sortable(since) or string.rep('\0', 8))
    end
end

