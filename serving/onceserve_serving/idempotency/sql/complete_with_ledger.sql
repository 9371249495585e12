-- As complete.sql, and a row of the ledger for each answer that has one, or neither of the two.
WITH locked AS MATERIALIZED (
  SELECT given.*
  FROM onceserve_record AS r
  JOIN unnest(
    $1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::smallint[], $6::text[], $7::text[], $8::text[], $9::text[]
  ) AS given (hash, claim_id, answer, retention, status, tenant, model, model_digest, revision)
    ON r.hash = given.hash AND r.claim_id = given.claim_id
  WHERE r.state = 0 AND r.expires > clock_timestamp()
  ORDER BY r.hash FOR UPDATE OF r
), done AS (
  UPDATE onceserve_record AS r
  SET state = 1, answer = locked.answer, expires = clock_timestamp() + locked.retention * interval '1 millisecond'
  FROM locked
  WHERE r.hash = locked.hash AND r.claim_id = locked.claim_id AND r.state = 0
  RETURNING r.hash, r.fingerprint, r.attempt, r.fence, r.claimed_at,
    locked.status, locked.tenant, locked.model, locked.model_digest, locked.revision
), entered AS (
  INSERT INTO onceserve_ledger
    (record, request, tenant, model, model_digest, revision, attempt, fence, status, started_at, completed_at)
  SELECT
    hash, fingerprint, tenant, model, model_digest, revision, attempt, fence, status, claimed_at, clock_timestamp()
  FROM done WHERE tenant IS NOT NULL
)
SELECT hash FROM done
