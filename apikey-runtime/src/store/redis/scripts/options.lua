-- ARGV: after those of change_log.lua, a JSON object: `origin`, from where the change comes; if they are given, `owner` and
-- `version`, which the record must have, and `max`, the maximum number of its owner's live keys; and `folds`, the folded
-- forms of labels, by their bytes in hexadecimal.
local options = cjson.decode(ARGV[3])

-- Returns why the record may not be changed, if it may not.
local function refusal(fields)
    if not fields or (options.owner and fields.owner ~= options.owner) then
        return 'not_found'
    end
    if options.version and fields.version ~= options.version then
        return 'conflict'
    end
end

