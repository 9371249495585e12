-- Returns {fingerprints, state, claim id, fence, attempt, ms of the lease, answer}, {'VERSION', version} or nothing.
local version, fingerprint, state, holder, fence, attempt, lease, answer = unpack(redis.call(
  'HMGET', KEYS[1], 'version', 'fingerprint', 'state', 'claim', 'fence', 'attempt', 'lease', 'answer'))
if not state then return nil end
if version ~= '1' then return {'VERSION', version or ''} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {fingerprint, state, holder, tonumber(fence), tonumber(attempt), math.max(lease - now, 0), answer}
