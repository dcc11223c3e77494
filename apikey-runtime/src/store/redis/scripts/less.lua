-- Compares whole numbers of 64 bits as texts: a number of Lua is exact up to 2^53 only.
local function less(a, b)
    local below_a, below_b = string.sub(a, 1, 1) == '-', string.sub(b, 1, 1) == '-'
    if below_a ~= below_b then
        return below_a
    end
    if below_a then
        a, b = string.sub(b, 2), string.sub(a, 2)
    end
    if #a ~= #b then
        return #a < #b
    end
    return a < b
end

