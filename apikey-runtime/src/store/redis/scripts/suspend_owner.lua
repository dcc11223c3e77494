-- ARGV: after those of change_owner.lua, whether all keys are suspended.
if state.suspended == ARGV[8] then
    return { 'unchanged', owner_text(state) }
end
save_owner(ARGV[8] == '1' and 'owner_suspended' or 'owner_resumed', 'suspended', state.suspended, ARGV[8])
return { 'done', owner_text(state) }
