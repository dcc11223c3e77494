-- KEYS: after those of audit.lua, the owners whose keys are not all marked. ARGV: after those of change_owner.lua, when; 1
-- and the reason, or 0 and nothing; the same for the actor.
local count = next_number(state.revocations)
if not is_count(count) then
    return { 'unreadable_owner' }
end
save_owner('owner_revoked', 'revocations', state.revocations, count)
local lengths = { ARGV[9] == '1' and #ARGV[10] or '', ARGV[11] == '1' and #ARGV[12] or '' }
local text = ARGV[8] .. ' ' .. lengths[1] .. ' ' .. lengths[2] .. ' ' .. ARGV[10] .. ARGV[12]
redis.call('HSET', revocations, count .. ':' .. owner, text)
-- If the keys are just being marked, the next pass is for this revocation.
if not mark_position(revocations, owner) then
    redis.call('HSET', revocations, ':' .. owner, count .. ' ' .. count .. ' ')
end
redis.call('ZADD', KEYS[9], 'NX', redis.call('HGET', meta, 'epoch'), owner)
return { 'done', owner_text(state) }
