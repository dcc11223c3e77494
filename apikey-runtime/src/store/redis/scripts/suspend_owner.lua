-- ARGV: after those of change_owner.lua, whether all keys are suspended.
if state.suspended == ARGV[7] then
    return { 'unchanged', owner_text(state) }
end
state.suspended = ARGV[7]
save_owner()
return { 'done', owner_text(state) }
