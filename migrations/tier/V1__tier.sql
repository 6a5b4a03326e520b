-- The tier of every account, its history and what counts towards it. Owner: projectors/src/tier.

CREATE TABLE checkpoint (partition smallint PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE cursor (account text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, poison text);

CREATE TABLE standing (
    program   text COLLATE "C" NOT NULL,
    account   text COLLATE "C" NOT NULL,
    tier      text NOT NULL,
    since     timestamptz NOT NULL,
    review_at timestamptz,
    PRIMARY KEY (program, account)
);

CREATE TABLE move (
    program     text COLLATE "C" NOT NULL,
    account     text COLLATE "C" NOT NULL,
    account_seq bigint NOT NULL,
    event       smallint NOT NULL,
    at          timestamptz NOT NULL,
    from_tier   text NOT NULL,
    to_tier     text NOT NULL,
    cause       text NOT NULL,
    qualifying  numeric NOT NULL,
    PRIMARY KEY (program, account, account_seq, event)
);

-- What counts, at the time of its purchase; what returns take is negative.
CREATE TABLE qualifying (
    program     text COLLATE "C" NOT NULL,
    account     text COLLATE "C" NOT NULL,
    account_seq bigint NOT NULL,
    event       smallint NOT NULL,
    at          timestamptz NOT NULL,
    amount      numeric NOT NULL,
    PRIMARY KEY (program, account, account_seq, event)
);
-- When each purchase was made, so that a return can be counted at its time.
CREATE TABLE purchase (
    program     text COLLATE "C" NOT NULL,
    account     text COLLATE "C" NOT NULL,
    purchase_id text COLLATE "C" NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (program, account, purchase_id)
);
