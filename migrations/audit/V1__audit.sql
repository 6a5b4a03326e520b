-- Which record answers which command. Owner: projectors/src/audit.

CREATE TABLE checkpoint (partition smallint PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE cursor (account text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, poison text);

CREATE TABLE command (
    program      text COLLATE "C" NOT NULL,
    account      text COLLATE "C" NOT NULL,
    account_seq  bigint NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    command_id   text COLLATE "C" NOT NULL,
    actor        text NOT NULL,
    recorded_at  timestamptz NOT NULL,
    effective_at timestamptz NOT NULL,
    rule_version integer NOT NULL,
    partition    smallint NOT NULL,
    position     bigint NOT NULL,
    -- BLAKE3 of the record as it is stored.
    record_hash  bytea NOT NULL,
    PRIMARY KEY (program, account, account_seq)
);
CREATE INDEX command_by_id ON command (program, account, command_id);
