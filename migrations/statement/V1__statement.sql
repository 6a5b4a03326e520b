-- Every movement of every account. Owner: projectors/src/statement.

CREATE TABLE checkpoint (partition smallint PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE cursor (account text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, poison text);

CREATE TABLE movement (
    program         text COLLATE "C" NOT NULL,
    account         text COLLATE "C" NOT NULL,
    account_seq     bigint NOT NULL,
    event           smallint NOT NULL,
    effective_at    timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    kind            text NOT NULL,
    reference       text NOT NULL,
    reason          text NOT NULL,
    actor           text NOT NULL,
    rule_version    integer NOT NULL,
    points          bigint NOT NULL,
    available_delta bigint NOT NULL,
    pending_delta   bigint NOT NULL,
    held_delta      bigint NOT NULL,
    owed_delta      bigint NOT NULL,
    earned_delta    bigint NOT NULL,
    available       bigint NOT NULL,
    pending         bigint NOT NULL,
    held            bigint NOT NULL,
    owed            bigint NOT NULL,
    lots            jsonb NOT NULL,
    PRIMARY KEY (program, account, account_seq, event)
);
