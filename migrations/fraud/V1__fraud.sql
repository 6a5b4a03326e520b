-- What fraud is seen by: one row for each thing that happened and may matter. Owner: projectors/src/fraud.

CREATE TABLE checkpoint (partition smallint PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE cursor (account text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, poison text);

CREATE TABLE signal (
    program     text COLLATE "C" NOT NULL,
    account     text COLLATE "C" NOT NULL,
    account_seq bigint NOT NULL,
    event       smallint NOT NULL,
    kind        text NOT NULL,
    at          timestamptz NOT NULL,
    actor       text COLLATE "C" NOT NULL,
    points      bigint NOT NULL,
    channel     text NOT NULL,
    store       text COLLATE "C" NOT NULL,
    cashier     text COLLATE "C" NOT NULL,
    till        text COLLATE "C" NOT NULL,
    device      text COLLATE "C" NOT NULL,
    card        text COLLATE "C" NOT NULL,
    reference   text COLLATE "C" NOT NULL,
    partition   smallint NOT NULL,
    position    bigint NOT NULL,
    PRIMARY KEY (program, account, account_seq, event)
);
CREATE INDEX signal_by_place ON signal (partition, position, event);
CREATE INDEX signal_by_account ON signal (program, account, at);
CREATE INDEX signal_by_reference ON signal (program, reference, at) WHERE reference <> '';
CREATE INDEX signal_by_cashier ON signal (program, cashier, at) WHERE cashier <> '';
CREATE INDEX signal_by_till ON signal (program, till, at) WHERE till <> '';
CREATE INDEX signal_by_device ON signal (program, device, at) WHERE device <> '';
CREATE INDEX signal_by_card ON signal (program, card, at) WHERE card <> '';
CREATE INDEX signal_by_store ON signal (program, store, at) WHERE store <> '';
CREATE INDEX signal_of_people ON signal (program, actor, at) WHERE kind = 'adjust';

COMMENT ON TABLE signal IS 'Things that happened and may matter for fraud';
COMMENT ON COLUMN signal.program IS 'Program';
COMMENT ON COLUMN signal.account IS 'Account';
COMMENT ON COLUMN signal.account_seq IS 'The record within the account';
COMMENT ON COLUMN signal.event IS 'The event within the record';
COMMENT ON COLUMN signal.kind IS 'open, earn, redeem, return, adjust, alias, woken';
COMMENT ON COLUMN signal.at IS 'When it happened';
COMMENT ON COLUMN signal.actor IS 'Who asked: the name of an API key';
COMMENT ON COLUMN signal.points IS 'What the member had more, or less';
COMMENT ON COLUMN signal.channel IS 'Of a purchase';
COMMENT ON COLUMN signal.store IS 'Of a purchase';
COMMENT ON COLUMN signal.cashier IS 'Who took the purchase';
COMMENT ON COLUMN signal.till IS 'On which till';
COMMENT ON COLUMN signal.device IS 'The member''s device';
COMMENT ON COLUMN signal.card IS 'Token of the card that was paid with';
COMMENT ON COLUMN signal.reference IS 'Id of the purchase, redemption, return or adjustment; of an alias, its hash';
COMMENT ON COLUMN signal.partition IS 'The partition of the log';
COMMENT ON COLUMN signal.position IS 'The record''s position in it';
