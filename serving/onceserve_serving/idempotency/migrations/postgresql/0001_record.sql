-- needs: 1
-- No index holds a column that changes, so that a completion rewrites its row where it is; the sweep goes by pages.
CREATE TABLE onceserve_record (
  hash bytea NOT NULL PRIMARY KEY,
  fingerprint bytea NOT NULL,
  other_fingerprint bytea,
  claim_id bytea NOT NULL,
  fence bigint NOT NULL,
  claimed_at timestamptz NOT NULL,
  lease_until timestamptz NOT NULL,
  expires timestamptz NOT NULL,
  attempt integer NOT NULL,
  state smallint NOT NULL,
  grant_kind smallint NOT NULL,
  answer bytea
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
-- Answers come compressed.
ALTER TABLE onceserve_record ALTER COLUMN answer SET STORAGE EXTERNAL;
