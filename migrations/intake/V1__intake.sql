-- What was published and not booked at once. Owner: intake.

-- Read, but whose it is is not known yet.
CREATE TABLE unmatched (
    topic       text NOT NULL,
    partition   integer NOT NULL,
    position    bigint NOT NULL,
    program     text COLLATE "C" NOT NULL,
    alias       bytea NOT NULL,
    kind        text NOT NULL,
    command_id  text NOT NULL,
    -- loyalty.v1.Ask, of no account yet
    ask         bytea NOT NULL,
    reason      text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    claimed_at  timestamptz,
    claimed_by  text,
    account     text,
    outcome     text,
    PRIMARY KEY (topic, partition, position)
);
CREATE INDEX unmatched_open ON unmatched (program, alias) WHERE claimed_at IS NULL;

-- Can't be read, or was refused.
CREATE TABLE rejected (
    topic       text NOT NULL,
    partition   integer NOT NULL,
    position    bigint NOT NULL,
    body        bytea NOT NULL,
    code        text NOT NULL,
    reason      text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, position)
);
