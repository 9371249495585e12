SELECT
  id, record, request, tenant, model, model_digest, revision, attempt, fence, status, started_at, completed_at
FROM onceserve_ledger
WHERE id > $1 AND ($2::text IS NULL OR tenant = $2) AND ($3::text IS NULL OR model = $3)
  AND ($4::bytea IS NULL OR record = $4)
  AND ($5::timestamptz IS NULL OR completed_at >= $5) AND ($6::timestamptz IS NULL OR completed_at < $6)
ORDER BY id LIMIT $7
