-- Every refused command. Owner: projectors/src/refusal.

CREATE TABLE checkpoint (partition smallint PRIMARY KEY, position bigint NOT NULL);

CREATE TABLE refusal (
    program     text COLLATE "C" NOT NULL,
    account     text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    command_id  text COLLATE "C" NOT NULL,
    actor       text NOT NULL,
    recorded_at timestamptz NOT NULL,
    code        text NOT NULL,
    detail      text NOT NULL,
    partition   smallint NOT NULL,
    position    bigint NOT NULL,
    PRIMARY KEY (partition, position)
);
CREATE INDEX refusal_by_time ON refusal (program, recorded_at, partition, position);
CREATE INDEX refusal_by_account ON refusal (program, account, recorded_at);
CREATE INDEX refusal_by_actor ON refusal (program, actor, recorded_at, partition, position);

COMMENT ON TABLE refusal IS 'Every refused command: who, when, why not';
COMMENT ON COLUMN refusal.program IS 'Program';
COMMENT ON COLUMN refusal.account IS 'Account';
COMMENT ON COLUMN refusal.kind IS 'purchase, redemption, return, adjustment, freeze, ...';
COMMENT ON COLUMN refusal.command_id IS 'Its id';
COMMENT ON COLUMN refusal.actor IS 'The name of the API key, import or clock';
COMMENT ON COLUMN refusal.recorded_at IS 'When it was refused';
COMMENT ON COLUMN refusal.code IS 'The rejection''s code';
COMMENT ON COLUMN refusal.detail IS 'The rejection in words';
COMMENT ON COLUMN refusal.partition IS 'The partition of the log';
COMMENT ON COLUMN refusal.position IS 'Its position among the partition''s outcomes';
