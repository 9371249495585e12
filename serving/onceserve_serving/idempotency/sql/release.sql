-- The record stays: its fingerprint and its fence still count.
WITH locked AS MATERIALIZED (
  SELECT r.hash, given.claim_id
  FROM onceserve_record AS r
  JOIN unnest($1::bytea[], $2::bytea[]) AS given (hash, claim_id) ON r.hash = given.hash AND r.claim_id = given.claim_id
  WHERE r.state = 0 AND r.expires > clock_timestamp()
  ORDER BY r.hash FOR UPDATE OF r
)
UPDATE onceserve_record AS r SET state = 2, attempt = r.attempt - 1
FROM locked WHERE r.hash = locked.hash AND r.claim_id = locked.claim_id AND r.state = 0
RETURNING r.hash
