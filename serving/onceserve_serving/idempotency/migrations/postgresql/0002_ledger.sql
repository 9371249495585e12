-- needs: 1
CREATE TABLE onceserve_ledger (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  record bytea NOT NULL,
  request bytea NOT NULL,
  tenant text NOT NULL,
  model text NOT NULL,
  model_digest text NOT NULL,
  revision text NOT NULL,
  attempt integer NOT NULL,
  fence bigint NOT NULL,
  status smallint NOT NULL,
  started_at timestamptz NOT NULL,
  completed_at timestamptz NOT NULL
);
CREATE INDEX onceserve_ledger_completed ON onceserve_ledger USING brin (completed_at);
