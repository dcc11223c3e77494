local function copy_of(fields)
    local copy = {}
    for name, value in pairs(fields) do
        copy[name] = value
    end
    return copy
end

-- Returns the entries to remove and to add. If a label has to be folded, returns nothing and the label.
local function changed_entries(id, before, after)
    local is_same = true
    for _, name in ipairs({ 'label', 'owner', 'owner_revocations', 'created_at', 'expires_at', 'revoked_at' }) do
        is_same = is_same and before[name] == after[name]
    end
    if is_same then
        return {}, {}
    end
    local old, new, label
    old, label = index_entries(id, before)
    if old then
        new, label = index_entries(id, after)
    end
    if not new then
        return nil, label
    end
    local stays, removed, added = {}, {}, {}
    for _, entry in ipairs(new) do
        stays[entry] = true
    end
    for _, entry in ipairs(old) do
        if not stays[entry] then
            removed[#removed + 1] = entry
        end
        stays[entry] = nil
    end
    for entry in pairs(stays) do
        added[#added + 1] = entry
    end
    return removed, added
end

