-- ARGV: claim id. Returns whether the claim was held. The record stays: its fingerprint and its fence still count.
local version, state, holder = unpack(redis.call('HMGET', KEYS[1], 'version', 'state', 'claim'))
if version ~= '1' or state ~= 'RUNNING' or holder ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'RELEASED')
redis.call('HINCRBY', KEYS[1], 'attempt', -1)
return 1
