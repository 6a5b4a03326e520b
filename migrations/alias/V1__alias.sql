-- By which other names accounts can be found. Owner: projectors/src/alias.

CREATE TABLE checkpoint (partition smallint PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE cursor (account text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, poison text);

-- Accounts of different partitions are folded in any order, so a name that several have is kept for each of them.
CREATE TABLE alias (
    program  text COLLATE "C" NOT NULL,
    alias    bytea NOT NULL,
    account  text COLLATE "C" NOT NULL,
    added_at timestamptz NOT NULL,
    PRIMARY KEY (program, alias, account)
);
