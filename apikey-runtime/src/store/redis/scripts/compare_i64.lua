-- Compares whole numbers of 64 bits as texts: a number of Lua is exact up to 2^53 only.
local function is_less(a, b)
    local negative_a, negative_b = string.sub(a, 1, 1) == '-', string.sub(b, 1, 1) == '-'
    if negative_a ~= negative_b then
        return negative_a
    end
    if negative_a then
        a, b = string.sub(b, 2), string.sub(a, 2)
    end
    if #a ~= #b then
        return #a < #b
    end
    return a < b
end

