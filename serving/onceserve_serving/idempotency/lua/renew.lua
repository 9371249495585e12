-- ARGV: claim id, lease ms. Returns whether the claim is held.
local version, state, holder = unpack(redis.call('HMGET', KEYS[1], 'version', 'state', 'claim'))
if version ~= '1' or state ~= 'RUNNING' or holder ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'lease', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
