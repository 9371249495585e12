-- Stores the answers of those who hold their claims, and returns which; of the others, held.sql tells.
WITH locked AS MATERIALIZED (
  SELECT given.*
  FROM onceserve_record AS r
  JOIN unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[]) AS given (hash, claim_id, answer, retention)
    ON r.hash = given.hash AND r.claim_id = given.claim_id
  WHERE r.state = 0 AND r.expires > clock_timestamp()
  ORDER BY r.hash FOR UPDATE OF r
)
UPDATE onceserve_record AS r
SET state = 1, answer = locked.answer, expires = clock_timestamp() + locked.retention * interval '1 millisecond'
FROM locked
WHERE r.hash = locked.hash AND r.claim_id = locked.claim_id AND r.state = 0
RETURNING r.hash
