-- needs: 1
-- The newest rows are those most asked for; without this the index knows nothing of them before the next vacuum, which
-- comes when the ledger has grown by a fifth. Takes no lock that a completion waits for.
ALTER INDEX onceserve_ledger_completed SET (autosummarize = on);
