-- Returns a member of the index of the audit log: `k`, `o` or `a` (a key, an owner, an actor), 8 bytes of the text's hash, and
-- the id in the stream as 10 bytes that sort. Texts whose hashes begin alike share a place.
local function audit_member(kind, text, position)
    local millis, sequence = string.match(position, '^(%d+)%-(%d+)$')
    local hash = hash_of(text)
    return kind .. string.sub(hash, 1, 8) .. struct.pack('>I6I4', tonumber(millis), tonumber(sequence))
end

-- Returns the members of an entry. Its owners have a `=` before them, so that an empty text is one.
local function audit_members(position, key, owner, former_owner, actor)
    local members = {}
    for _, place in ipairs({ { 'k', key }, { 'o', string.sub(owner, 2), owner }, { 'o', string.sub(former_owner, 2), former_owner },
        { 'a', actor } }) do
        if (place[3] or place[2]) ~= '' then
            members[#members + 1] = audit_member(place[1], place[2], position)
        end
    end
    return members
end

