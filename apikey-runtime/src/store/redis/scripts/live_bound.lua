-- Returns the answer to a change that makes a key live, for an owner who has as many live keys as it may have.
local function check_live_keys(owner, state)
    -- Keys of an older release are to be counted too.
    if #redis.call('ZRANGE', index, '[l', '(m', 'BYLEX', 'LIMIT', 0, 1) > 0 then
        return { 'unindexed' }
    end
    local low, high = live_range(owner, state)
    if redis.call('ZLEXCOUNT', index, low, high) >= options.max then
        return { 'too_many', owner }
    end
end

