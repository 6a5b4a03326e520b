-- Assessments of decline that were made, and where members stood by each. Owner: analysis.

CREATE TABLE assessment (
    program  text COLLATE "C" NOT NULL,
    version  integer NOT NULL,
    made_at  timestamptz NOT NULL,
    as_of    date NOT NULL,
    known_at date,
    in_force boolean NOT NULL,
    chosen   boolean NOT NULL,
    why      text NOT NULL,
    models   jsonb NOT NULL,
    PRIMARY KEY (program, version)
);
CREATE UNIQUE INDEX assessment_in_force ON assessment (program) WHERE in_force;

CREATE TABLE assessed (
    program        text COLLATE "C" NOT NULL,
    version        integer NOT NULL,
    account        text COLLATE "C" NOT NULL,
    as_of          date NOT NULL,
    state          text NOT NULL,
    falls          double precision NOT NULL,
    leaves         double precision NOT NULL,
    value_at_stake double precision NOT NULL,
    recency_days   integer NOT NULL,
    orders         bigint NOT NULL,
    reasons        text[] NOT NULL,
    signals        jsonb,
    PRIMARY KEY (program, version, account)
);

ALTER TABLE standing ADD COLUMN assessment integer;

COMMENT ON TABLE assessment IS 'Assessments of decline, every one that was kept';
COMMENT ON COLUMN assessment.program IS 'Program';
COMMENT ON COLUMN assessment.version IS '1, 2, 3 ... within the program';
COMMENT ON COLUMN assessment.made_at IS 'When it was made';
COMMENT ON COLUMN assessment.as_of IS 'As of the end of which day';
COMMENT ON COLUMN assessment.known_at IS 'Only what was booked by the end of this day was known to it; null if all was';
COMMENT ON COLUMN assessment.in_force IS 'Whether standings are by it';
COMMENT ON COLUMN assessment.chosen IS 'Whether somebody put it in force by hand';
COMMENT ON COLUMN assessment.why IS 'Why it was put in force, or not';
COMMENT ON COLUMN assessment.models IS 'What the probabilities are made by, with their check on the holdout';
COMMENT ON TABLE assessed IS 'Where members stood by an assessment: of the ten newest and the one in force';
COMMENT ON COLUMN assessed.program IS 'Program';
COMMENT ON COLUMN assessed.version IS 'The assessment';
COMMENT ON COLUMN assessed.account IS 'Account';
COMMENT ON COLUMN assessed.as_of IS 'As of the end of which day';
COMMENT ON COLUMN assessed.state IS 'growing, steady, slipping, fallen, at_risk or lost';
COMMENT ON COLUMN assessed.falls IS 'Probability that the next 90 days bring less than half of the better of the last two windows of 90 days';
COMMENT ON COLUMN assessed.leaves IS 'Probability that they bring nothing';
COMMENT ON COLUMN assessed.value_at_stake IS 'Margin of the better window times that probability, in the program''s currency';
COMMENT ON COLUMN assessed.recency_days IS 'Days since the last purchase';
COMMENT ON COLUMN assessed.orders IS 'Days with a purchase so far';
COMMENT ON COLUMN assessed.reasons IS 'Why, in words';
COMMENT ON COLUMN assessed.signals IS 'The signs that were looked at, as in the API';
COMMENT ON COLUMN standing.assessment IS 'By which assessment; null of one by a version that kept none';
COMMENT ON COLUMN standing.state IS 'growing, steady, slipping, fallen, at_risk or lost';
COMMENT ON COLUMN standing.falls IS 'Probability that the next 90 days bring less than half of the better of the last two windows of 90 days';
COMMENT ON COLUMN standing.value_at_stake IS 'Margin of the better window times that probability, in the program''s currency';
