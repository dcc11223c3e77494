-- Each record is answered as its fields and their values. If it has an owner, these come after them: `owner_state`; the number
-- alone as `owner_revocations`, unless it is 0; and, if a revocation of the owner ended the key that is not yet marked,
-- `revoked_at` and `revoked_reason`.
local answer = {}
for i = 3, #KEYS do
    local fields = redis.pcall('HGETALL', KEYS[i])
    local owner, number, revoked_at
    if fields.err then
        if not string.find(fields.err, 'WRONGTYPE', 1, true) then
            return fields
        end
        fields = { 'wrong_type' }
    end
    for j = 1, #fields, 2 do
        local name = fields[j]
        if name == 'owner' then
            owner = fields[j + 1]
        elseif name == 'owner_revocations' then
            number = fields[j + 1]
        elseif name == 'revoked_at' then
            revoked_at = fields[j + 1]
        end
    end
    if owner then
        local text = redis.call('HGET', owners, owner)
        local size = #fields
        fields[size + 1], fields[size + 2] = 'owner_state', text or '1 0 0'
        number = number and number_of_key(owner, number) or '0'
        fields[size + 3], fields[size + 4] = 'owner_revocations', number
        -- A text that cannot be read is an error of the caller's.
        local state = text and not revoked_at and owner_of_text(text)
        if state then
            local at, reason = owner_revocation(owner, number, state)
            if at then
                fields[size + 5], fields[size + 6] = 'revoked_at', at
            end
            if reason then
                fields[size + 7], fields[size + 8] = 'revoked_reason', reason
            end
        end
    end
    answer[i - 2] = fields
end
return answer
