-- KEYS: after those of records.lua, the owners whose keys are not all marked. ARGV: after those of change_owner.lua, when; 1
-- and the reason, or 0 and nothing; the same for the actor.
if not is_count(next_number(state.revocations)) then
    return { 'unreadable_owner' }
end
state.revocations = next_number(state.revocations)
save_owner()
local count = state.revocations
local lengths = { ARGV[8] == '1' and #ARGV[9] or '', ARGV[10] == '1' and #ARGV[11] or '' }
local text = ARGV[7] .. ' ' .. lengths[1] .. ' ' .. lengths[2] .. ' ' .. ARGV[9] .. ARGV[11]
redis.call('HSET', revocations, count .. ':' .. owner, text)
-- If the keys are just being marked, the next pass is for this revocation.
if not mark_position(revocations, owner) then
    redis.call('HSET', revocations, ':' .. owner, count .. ' ' .. count .. ' ')
end
redis.call('ZADD', KEYS[7], 'NX', redis.call('HGET', meta, 'epoch'), owner)
return { 'done', owner_text(state) }
