-- needs: 1
-- Times are milliseconds since 1970. Rows lie in the order of their claims, so that a group writes few pages, and no
-- index holds a column that changes. The answer comes last: it may lie on pages of its own.
CREATE TABLE record (
  id INTEGER PRIMARY KEY,
  hash BLOB NOT NULL UNIQUE,
  fingerprint BLOB NOT NULL,
  claim_id BLOB NOT NULL,
  state INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  lease_until INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  answer BLOB
) STRICT;
