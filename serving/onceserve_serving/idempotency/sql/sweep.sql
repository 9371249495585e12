-- Pages $1 to $2 of the table. A row that somebody uses is left for the next time.
WITH deleted AS (
  DELETE FROM onceserve_record
  WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM onceserve_record
    WHERE ctid >= format('(%s,0)', $1::bigint)::tid AND ctid < format('(%s,0)', $2::bigint)::tid
      AND expires <= clock_timestamp()
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING 1
)
SELECT
  (SELECT count(*) FROM deleted) AS deleted,
  pg_relation_size('onceserve_record') / current_setting('block_size')::bigint AS pages
