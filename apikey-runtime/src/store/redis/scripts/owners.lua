-- Owners. The hash `owners` has a text for each: `version revocations suspended`. An owner without one is as a new one: its
-- keys are of an older release. The hash `revocations` has each revocation of all keys of an owner by `number:owner`, until
-- they are marked: its time, the lengths of reason and actor (empty if not given), and these. A record has
-- `owner_revocations` if it is not 0: the number and the hash of the owner to which it belongs. If an older release changes
-- the owner, the number stays behind, and the key counts as one of the oldest.
local function is_count(text)
    return text and #text < 19 and not string.find(text, '^0.')
end

-- Returns a whole number that is not negative, plus 1.
local function next_number(text)
    local head, digit, nines = string.match(text, '^(%d*)([0-8])(9*)$')
    if not digit then
        return '1' .. string.rep('0', #text)
    end
    return head .. tostring(digit + 1) .. string.rep('0', #nines)
end

-- Returns nothing if the text cannot be read.
local function owner_of_text(text)
    local version, count, suspended = string.match(text, '^(%d+) (%d+) ([01])$')
    if is_count(version) and is_count(count) then
        return { version = version, revocations = count, suspended = suspended }
    end
end

local function read_owner(owner)
    local text = redis.call('HGET', owners, owner)
    local state = owner_of_text(text or '1 0 0')
    if state then
        state.is_stored = text and true
    end
    return state
end

local function owner_text(state)
    return state.version .. ' ' .. state.revocations .. ' ' .. state.suspended
end

local function owner_tag(owner)
    return string.sub(redis.sha1hex(owner), 1, 16)
end

-- Returns the number in the field `owner_revocations` of a record.
local function number_of_key(owner, field)
    local number, tag = string.match(field or '', '^(%d+):(%x+)$')
    if is_count(number) and tag == owner_tag(owner) then
        return number
    end
    return '0'
end

-- Returns when and why an owner's revocation ended a key that has this number; nothing if none did.
local function owner_revocation(owner, number, state)
    if not is_less(number, state.revocations) then
        return nil
    end
    local text = redis.call('HGET', revocations, next_number(number) .. ':' .. owner)
    local at, length, start = string.match(text or '', '^(%-?%d+) (%d*) %d* ()')
    if at then
        return at, length ~= '' and string.sub(text, start, start + length - 1) or nil
    end
    -- The number was raised by hand, or an older release added the key.
    return now_millis()
end

