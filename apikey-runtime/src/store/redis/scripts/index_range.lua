-- Returns ids in the index, in their order: all of them, or those that belong to a text; after this id, at most `count`.
local function index_range(index, kind, text, after, count)
    local stem = kind
    if kind ~= 'i' then
        stem = kind .. string.sub(redis.sha1hex(text), 1, 16)
    end
    local from = '[' .. stem
    if after ~= '' then
        from = '(' .. stem .. after
    end
    local ids = redis.call('ZRANGE', index, from, '(' .. stem .. '\255', 'BYLEX', 'LIMIT', 0, count)
    for i = 1, #ids do
        ids[i] = string.sub(ids[i], #stem + 1)
    end
    return ids
end

