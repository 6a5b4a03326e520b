-- A case that was dismissed and is opened again freezes its accounts again.

ALTER TABLE fraud_freeze ADD COLUMN round bigint NOT NULL DEFAULT 0;
COMMENT ON TABLE fraud_freeze IS 'Accounts that a rule with block freezes, each once until the case is dismissed; asked for again until the ledger has answered';
COMMENT ON COLUMN fraud_freeze.round IS 'How often the case had been dismissed before';
