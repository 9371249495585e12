WITH locked AS MATERIALIZED (
  SELECT r.hash, given.claim_id, clock_timestamp() + given.lease * interval '1 millisecond' AS lease_until
  FROM onceserve_record AS r
  JOIN unnest($1::bytea[], $2::bytea[], $3::bigint[]) AS given (hash, claim_id, lease)
    ON r.hash = given.hash AND r.claim_id = given.claim_id
  WHERE r.state = 0 AND r.expires > clock_timestamp()
  ORDER BY r.hash FOR UPDATE OF r
)
UPDATE onceserve_record AS r SET lease_until = locked.lease_until, expires = greatest(r.expires, locked.lease_until)
FROM locked WHERE r.hash = locked.hash AND r.claim_id = locked.claim_id AND r.state = 0
RETURNING r.hash
