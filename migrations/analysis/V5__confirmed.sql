-- What is known to be fraud: the signals that confirmed cases and reports are about. Owner: analysis.

CREATE TABLE fraud_confirmed (
    program   text COLLATE "C" NOT NULL,
    case_id   text COLLATE "C" NOT NULL,
    partition smallint NOT NULL,
    position  bigint NOT NULL,
    kind      text NOT NULL,
    at        timestamptz NOT NULL,
    account   text COLLATE "C" NOT NULL,
    actor     text COLLATE "C" NOT NULL,
    store     text COLLATE "C" NOT NULL,
    cashier   text COLLATE "C" NOT NULL,
    till      text COLLATE "C" NOT NULL,
    device    text COLLATE "C" NOT NULL,
    card      text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    PRIMARY KEY (program, case_id, partition, position, kind)
);
-- Few signals are fraud: those of a window are looked through.
CREATE INDEX fraud_confirmed_by_time ON fraud_confirmed (program, at);

COMMENT ON TABLE fraud_confirmed IS 'Signals that a confirmed case of fraud is about';
COMMENT ON COLUMN fraud_confirmed.program IS 'Program';
COMMENT ON COLUMN fraud_confirmed.case_id IS 'The case';
COMMENT ON COLUMN fraud_confirmed.partition IS 'The partition of the log';
COMMENT ON COLUMN fraud_confirmed.position IS 'The record''s position in it';
COMMENT ON COLUMN fraud_confirmed.kind IS 'open, earn, redeem, return, adjust, alias, woken';
COMMENT ON COLUMN fraud_confirmed.at IS 'When it happened';
COMMENT ON COLUMN fraud_confirmed.account IS 'Account';
COMMENT ON COLUMN fraud_confirmed.actor IS 'Who asked: the name of an API key';
COMMENT ON COLUMN fraud_confirmed.store IS 'Of a purchase';
COMMENT ON COLUMN fraud_confirmed.cashier IS 'Who took the purchase';
COMMENT ON COLUMN fraud_confirmed.till IS 'On which till';
COMMENT ON COLUMN fraud_confirmed.device IS 'The member''s device';
COMMENT ON COLUMN fraud_confirmed.card IS 'Token of the card that was paid with';
COMMENT ON COLUMN fraud_confirmed.reference IS 'Id of the purchase, redemption, return or adjustment; of an alias, its hash';
