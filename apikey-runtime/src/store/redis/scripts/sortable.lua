-- Returns 8 bytes for the text of a whole number of 64 bits; as texts, they sort as the numbers do. Nothing if it is not one.
local function sortable(text)
    local sign, digits = string.match(text or '', '^(%-?)(%d+)$')
    if not digits or #digits > 19 then
        return nil
    end
    -- In two halves, since a number of Lua is exact up to 2^53 only.
    local high, low = 0, 0
    digits = string.rep('0', 24 - #digits) .. digits
    for i = 1, 24, 6 do
        low = low * 1000000 + tonumber(string.sub(digits, i, i + 5))
        local carry = math.floor(low / 4294967296)
        high, low = high * 1000000 + carry, low - carry * 4294967296
    end
    if sign == '-' then
        high = 2147483648 - high
        if low > 0 then
            high, low = high - 1, 4294967296 - low
        end
    else
        high = high + 2147483648
    end
    if high >= 0 and high < 4294967296 then
        return struct.pack('>I4I4', high, low)
    end
end

-- Returns the SHA-1 of a text, as 20 bytes and as digits.
local function hash_of(text)
    local digits = redis.sha1hex(text)
    local bytes = string.gsub(digits, '%x%x', function(pair)
        return string.char(tonumber(pair, 16))
    end)
    return bytes, digits
end

