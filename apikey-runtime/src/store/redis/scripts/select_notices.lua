-- KEYS: the index, the nodes. ARGV: the node, what follows entries that are due, at most how many of a queue, and a random node, with
-- whose claims the search for those of nodes that are gone begins: so a later call finds what this one does not reach. Answers the
-- entries of notices that the node may claim.
local index, nodes, node, due, count, start = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local answer = {}

local function add_due(stem)
    local entries = redis.call('ZRANGE', index, '[' .. stem .. '\0', '(' .. stem .. due, 'BYLEX', 'LIMIT', 0, count)
    for _, entry in ipairs(entries) do
        answer[#answer + 1] = entry
    end
    return #entries > 0
end

-- Returns the next node that has claimed notices.
local function next_claimer(after, last)
    local entry = redis.call('ZRANGE', index, '(h' .. after, last, 'BYLEX', 'LIMIT', 0, 1)[1]
    return entry and string.sub(entry, 2, 23)
end

add_due('n')
add_due('h' .. node)
local claimer, last, gone = start, '(i', 0
for _ = 1, 100 do
    claimer = next_claimer(claimer, last)
    if not claimer and last == '(i' then
        -- Those before the start.
        last = '(h' .. start
        claimer = next_claimer('', last)
    end
    if not claimer or gone == 8 then
        break
    end
    if claimer ~= node and redis.call('HEXISTS', nodes, 'heartbeat:' .. claimer) == 0 and add_due('h' .. claimer) then
        gone = gone + 1
    end
    claimer = claimer .. '\255'
end
return answer
