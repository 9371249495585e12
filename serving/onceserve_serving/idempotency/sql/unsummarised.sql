-- The index of the ledger if it knows nothing of new rows before a vacuum comes by (when the ledger has grown by a
-- fifth), nobody has chosen that, and this role may change it. The newest rows are those most asked for.
SELECT index.oid
FROM pg_class AS index JOIN pg_am AS method ON method.oid = index.relam AND method.amname = 'brin'
WHERE index.oid = to_regclass('onceserve_ledger_completed') AND index.relkind = 'i'
  AND pg_has_role(index.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_options_to_table(index.reloptions) WHERE option_name = 'autosummarize')
