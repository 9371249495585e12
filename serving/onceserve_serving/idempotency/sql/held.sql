SELECT
  hash, state, claim_id, fence, attempt, fingerprint, other_fingerprint, answer,
  greatest(extract(epoch FROM lease_until - clock_timestamp()), 0)::float8 AS remaining
FROM onceserve_record WHERE hash = ANY ($1::bytea[]) AND expires > clock_timestamp()
