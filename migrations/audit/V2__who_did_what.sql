-- What an auditor searches by: why, how many points, where. Rows from before have none of it until `loyalty rebuild audit`.

ALTER TABLE command ADD COLUMN reason text NOT NULL DEFAULT '';
ALTER TABLE command ADD COLUMN points bigint NOT NULL DEFAULT 0;
ALTER TABLE command ADD COLUMN channel text NOT NULL DEFAULT '';
ALTER TABLE command ADD COLUMN store text NOT NULL DEFAULT '';
CREATE INDEX command_by_time ON command (program, recorded_at, account, account_seq);
CREATE INDEX command_by_actor ON command (program, actor, recorded_at, account, account_seq);

COMMENT ON TABLE command IS 'Every accepted command: who, when, why';
COMMENT ON COLUMN command.program IS 'Program';
COMMENT ON COLUMN command.account IS 'Account';
COMMENT ON COLUMN command.account_seq IS 'Its record within the account';
COMMENT ON COLUMN command.kind IS 'purchase, redemption, return, adjustment, freeze, ...';
COMMENT ON COLUMN command.command_id IS 'Its id';
COMMENT ON COLUMN command.actor IS 'The name of the API key, import or clock';
COMMENT ON COLUMN command.recorded_at IS 'When it was booked';
COMMENT ON COLUMN command.effective_at IS 'When what it tells of happened';
COMMENT ON COLUMN command.rule_version IS 'The version of the rulebook that decided it';
COMMENT ON COLUMN command.partition IS 'The partition of the log';
COMMENT ON COLUMN command.position IS 'The record''s position in it';
COMMENT ON COLUMN command.record_hash IS 'BLAKE3 of the record as it is stored';
COMMENT ON COLUMN command.reason IS 'The reason''s code and note, where it has one';
COMMENT ON COLUMN command.points IS 'What the member had more, or less, for it';
COMMENT ON COLUMN command.channel IS 'Of a purchase';
COMMENT ON COLUMN command.store IS 'Of a purchase';
