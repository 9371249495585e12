-- ARGV: fingerprints, claim id, lease ms, retention ms, whether replicas are waited for.
-- Returns {kind, fence, attempt}, {'BUSY', ms}, {'DONE', answer}, {'MISMATCH', fingerprints} or {'VERSION', version}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local version, state, fingerprint, holder, fence, attempt, lease, answer = unpack(redis.call(
  'HMGET', KEYS[1], 'version', 'state', 'fingerprint', 'claim', 'fence', 'attempt', 'lease', 'answer'))

local function grant(kind, fence, attempt)
  redis.call('HSET', KEYS[1], 'version', '1', 'state', 'RUNNING', 'fingerprint', ARGV[1], 'claim', ARGV[2],
    'fence', fence, 'attempt', attempt, 'lease', now + ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {kind, fence, attempt}
end

-- Fingerprints are 40 bytes each, one or two on either side; any in common says that it is the same request.
local function same_request()
  for at = 1, #fingerprint, 40 do
    for other = 1, #ARGV[1], 40 do
      if string.sub(fingerprint, at, at + 39) == string.sub(ARGV[1], other, other + 39) then return true end
    end
  end
  return false
end

if not state then return grant('NEW', now, 1) end
if version ~= '1' then return {'VERSION', version or ''} end
if not same_request() then return {'MISMATCH', fingerprint} end
if state == 'COMPLETED' then
  -- WAIT counts the replicas that have what this connection wrote, so an answer is only safe after a write of its own.
  if ARGV[5] == '1' then redis.call('PEXPIRE', KEYS[1], redis.call('PTTL', KEYS[1])) end
  return {'DONE', answer}
end
local following = math.max(fence + 1, now)
if state == 'RELEASED' then return grant('TAKEOVER', following, attempt + 1) end
if state ~= 'RUNNING' then return {'VERSION', version .. ' ' .. state} end
if holder == ARGV[2] then return grant('OWNED', tonumber(fence), tonumber(attempt)) end
if tonumber(lease) > now then return {'BUSY', lease - now} end
return grant('TAKEOVER', following, attempt + 1)
