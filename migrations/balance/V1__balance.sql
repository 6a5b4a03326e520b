-- What every account has, with its lots. Owner: projectors/src/balance.

CREATE TABLE checkpoint (partition smallint PRIMARY KEY, position bigint NOT NULL);
-- The last record folded, by account; an account with poison is stopped at it.
CREATE TABLE cursor (account text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, poison text);

CREATE TABLE balance (
    program         text COLLATE "C" NOT NULL,
    account         text COLLATE "C" NOT NULL,
    status          text NOT NULL,
    opened_at       timestamptz,
    issued          bigint NOT NULL,
    pending         bigint NOT NULL,
    available       bigint NOT NULL,
    held            bigint NOT NULL,
    redeemed        bigint NOT NULL,
    expired         bigint NOT NULL,
    clawed_back     bigint NOT NULL,
    forfeited       bigint NOT NULL,
    adjusted        bigint NOT NULL,
    owed            bigint NOT NULL,
    shortfall       bigint NOT NULL,
    lifetime_earned bigint NOT NULL,
    partition       smallint NOT NULL,
    position        bigint NOT NULL,
    PRIMARY KEY (program, account)
);

CREATE TABLE lot (
    program      text COLLATE "C" NOT NULL,
    account      text COLLATE "C" NOT NULL,
    lot_id       integer NOT NULL,
    points       bigint NOT NULL,
    remaining    bigint NOT NULL,
    held         bigint NOT NULL,
    pending      boolean NOT NULL,
    earned_at    timestamptz,
    available_at timestamptz,
    expires_at   timestamptz,
    expiry_moves boolean NOT NULL,
    source       text NOT NULL,
    rule_version integer NOT NULL,
    PRIMARY KEY (program, account, lot_id)
);
