-- Returns how far the keys of an owner are marked, or nothing if there is nothing to mark: `first last after`, the field
-- `:owner` of the revocations. Those from first to last are removed once all keys are marked; after is the last key, or nothing.
local function mark_position(revocations, owner)
    local text = redis.call('HGET', revocations, ':' .. owner) or ''
    local first, last, start = string.match(text, '^(%d+) (%d+) ()')
    if first then
        return first, last, string.sub(text, start)
    end
end

