-- What is known to be fraud: the records that confirmed cases and reports are about. Owner: analysis.

CREATE TABLE fraud_confirmed (
    program   text COLLATE "C" NOT NULL,
    partition smallint NOT NULL,
    position  bigint NOT NULL,
    case_id   text COLLATE "C" NOT NULL,
    PRIMARY KEY (program, partition, position, case_id)
);
CREATE INDEX fraud_confirmed_by_case ON fraud_confirmed (program, case_id);

COMMENT ON TABLE fraud_confirmed IS 'Records that a confirmed case of fraud is about';
COMMENT ON COLUMN fraud_confirmed.program IS 'Program';
COMMENT ON COLUMN fraud_confirmed.partition IS 'The partition of the log';
COMMENT ON COLUMN fraud_confirmed.position IS 'The record''s position in it';
COMMENT ON COLUMN fraud_confirmed.case_id IS 'The case';
