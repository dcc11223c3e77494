-- Entries of the index, a sorted set without scores. A time takes 8 bytes, an id has a fixed length and is the last.
--   `i`, id: every record, in the order of ids
--   `c`, creation, id: every record, in the order of creation
--   `x`, expiry, id: a record that expires
--   `f`, folded label, a byte 0, id: a byte 0 of the label is followed by 255, which no text and no id has
--   `t`, 8 bytes of the owner's hash, creation, id: the records of an owner, in the order of creation
--   `o`, 16 digits of the owner's hash, id: the same in the order of ids, for marking; an older release marks and lists by it
--   `v`, the owner's hash, its number of revocations, expiry, id: a key that is not revoked itself
--   `n` and `h`: see notices.lua
--   `p`, an owner: each that has a text in `owners`
--   `l`, 16 digits of the label's hash, id: an older release has written the record, and the others are to be made
-- Texts whose hashes begin alike share a place, so a record that is found by one is compared with the text itself.

-- Returns the fields of a record, or nothing if it does not exist.
local function fields_of(list)
    local fields = {}
    for i = 1, #list, 2 do
        fields[list[i]] = list[i + 1]
    end
    return list[1] and fields
end

-- Returns the text by which a label is found; nothing if the caller has to fold it: Lua folds ASCII only.
local function label_key(label)
    local key
    if not string.find(label, '[\128-\255]') then
        key = string.sub(string.lower(label), 1, 64)
    else
        key = options.folds[string.gsub(label, '.', function(byte)
            return string.format('%02x', string.byte(byte))
        end)]
    end
    return key and (string.gsub(key, '%z', '\0\255'))
end

-- Returns the entries of a record. If its label has to be folded, returns nothing and the label.
local function index_entries(id, fields)
    local owner, label = fields.owner, fields.label
    local created, ends = sortable(fields.created_at) or string.rep('\0', 8), sortable(fields.expires_at)
    local entries = { 'i' .. id, 'c' .. created .. id }
    if label then
        local key = label_key(label)
        if not key then
            return nil, label
        end
        entries[3] = 'f' .. key .. '\0' .. id
    end
    if ends then
        entries[#entries + 1] = 'x' .. ends .. id
    end
    if owner then
        local hash, digits = hash_of(owner)
        entries[#entries + 1] = 'o' .. string.sub(digits, 1, 16) .. id
        entries[#entries + 1] = 't' .. string.sub(hash, 1, 8) .. created .. id
        if not fields.revoked_at then
            entries[#entries + 1] = live_entry(id, fields, hash)
        end
    end
    return entries
end

local function add_entries(entries)
    local scored = {}
    for i, entry in ipairs(entries) do
        scored[2 * i - 1], scored[2 * i] = 0, entry
    end
    if #entries > 0 then
        redis.call('ZADD', index, unpack(scored))
    end
end

local function remove_entries(entries)
    if #entries > 0 then
        redis.call('ZREM', index, unpack(entries))
    end
end

