-- Grants what may be granted, and returns how; what is not returned is another's, or done: held.sql tells.
-- Rows are locked in the order of their hashes, so that two servers never wait for each other.
-- EXCLUDED.claimed_at is "now" throughout: by a single time a row is either over or not.
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
INSERT INTO onceserve_record AS r
  (hash, fingerprint, other_fingerprint, claim_id, fence, claimed_at, lease_until, expires, attempt, state, grant_kind)
SELECT
  hash, fingerprint, other_fingerprint, claim_id, (extract(epoch FROM now) * 1000)::bigint, now,
  now + lease * interval '1 millisecond', now + retention * interval '1 millisecond', 1, 0, 0
FROM clock, unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[])
  AS asked (hash, fingerprint, other_fingerprint, claim_id, lease, retention)
ORDER BY hash
ON CONFLICT (hash) DO UPDATE SET
  fingerprint = EXCLUDED.fingerprint,
  other_fingerprint = EXCLUDED.other_fingerprint,
  claim_id = EXCLUDED.claim_id,
  lease_until = EXCLUDED.lease_until,
  expires = EXCLUDED.expires,
  state = 0,
  answer = NULL,
  -- 0 new, 1 owned, 2 takeover
  grant_kind = CASE
    WHEN r.expires <= EXCLUDED.claimed_at THEN 0 WHEN r.state = 0 AND r.claim_id = EXCLUDED.claim_id THEN 1 ELSE 2 END,
  attempt = CASE
    WHEN r.expires <= EXCLUDED.claimed_at THEN 1
    WHEN r.state = 0 AND r.claim_id = EXCLUDED.claim_id THEN r.attempt ELSE r.attempt + 1 END,
  fence = CASE
    WHEN r.expires > EXCLUDED.claimed_at AND r.state = 0 AND r.claim_id = EXCLUDED.claim_id THEN r.fence
    ELSE greatest(r.fence + 1, EXCLUDED.fence) END,
  claimed_at = CASE
    WHEN r.expires > EXCLUDED.claimed_at AND r.state = 0 AND r.claim_id = EXCLUDED.claim_id THEN r.claimed_at
    ELSE EXCLUDED.claimed_at END
WHERE r.expires <= EXCLUDED.claimed_at
  OR (
    (r.fingerprint IN (EXCLUDED.fingerprint, EXCLUDED.other_fingerprint)
      OR r.other_fingerprint IN (EXCLUDED.fingerprint, EXCLUDED.other_fingerprint))
    AND (r.state = 2
      OR (r.state = 0 AND (r.claim_id = EXCLUDED.claim_id OR r.lease_until <= EXCLUDED.claimed_at)))
  )
RETURNING hash, grant_kind, fence, attempt
