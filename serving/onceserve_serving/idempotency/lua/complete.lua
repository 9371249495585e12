-- ARGV: claim id, answer, retention ms, whether replicas are waited for.
-- Returns {'COMMITTED'}, {'LOST_DONE', answer}, {'LOST'} or {'VERSION', version}.
local version, state, holder, answer = unpack(redis.call('HMGET', KEYS[1], 'version', 'state', 'claim', 'answer'))
if not state then return {'LOST'} end
if version ~= '1' then return {'VERSION', version or ''} end
if state == 'RUNNING' and holder == ARGV[1] then
  redis.call('HSET', KEYS[1], 'state', 'COMPLETED', 'answer', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'COMMITTED'}
end
if state ~= 'COMPLETED' then return {'LOST'} end
if ARGV[4] == '1' then redis.call('PEXPIRE', KEYS[1], redis.call('PTTL', KEYS[1])) end
if holder == ARGV[1] then return {'COMMITTED'} end
return {'LOST_DONE', answer}
