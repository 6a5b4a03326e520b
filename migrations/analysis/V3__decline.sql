-- Where members stand, how they came there, and what was done about it. Owner: analysis.

CREATE TABLE standing (
    program        text COLLATE "C" NOT NULL,
    account        text COLLATE "C" NOT NULL,
    as_of          date NOT NULL,
    state          text NOT NULL,
    falls          double precision NOT NULL,
    leaves         double precision NOT NULL,
    value_at_stake double precision NOT NULL,
    recency_days   integer NOT NULL,
    orders         bigint NOT NULL,
    reasons        text[] NOT NULL,
    PRIMARY KEY (program, account)
);
CREATE INDEX standing_by_stake ON standing (program, value_at_stake DESC, account);

CREATE TABLE transition (
    program    text COLLATE "C" NOT NULL,
    number     bigint NOT NULL,
    account    text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    from_state text NOT NULL,
    to_state   text NOT NULL,
    reasons    text[] NOT NULL,
    PRIMARY KEY (program, number)
);
CREATE INDEX transition_by_account ON transition (program, account, number);

CREATE TABLE contact (
    program        text COLLATE "C" NOT NULL,
    action         text COLLATE "C" NOT NULL,
    account        text COLLATE "C" NOT NULL,
    day            date NOT NULL,
    arm            text NOT NULL,
    cost           numeric NOT NULL,
    value_at_stake double precision NOT NULL,
    actor          text NOT NULL,
    PRIMARY KEY (program, account, day)
);
CREATE INDEX contact_by_action ON contact (program, action, day);

COMMENT ON TABLE standing IS 'Where each member stands, as assessed last';
COMMENT ON COLUMN standing.program IS 'Program';
COMMENT ON COLUMN standing.account IS 'Account';
COMMENT ON COLUMN standing.as_of IS 'As of the end of which day';
COMMENT ON COLUMN standing.state IS 'growing, steady, slipping, at_risk or lost';
COMMENT ON COLUMN standing.falls IS 'Probability that the next 90 days bring less than half of the last 90';
COMMENT ON COLUMN standing.leaves IS 'Probability that they bring nothing';
COMMENT ON COLUMN standing.value_at_stake IS 'Margin of 90 days times that probability, in the program''s currency';
COMMENT ON COLUMN standing.recency_days IS 'Days since the last purchase';
COMMENT ON COLUMN standing.orders IS 'Days with a purchase so far';
COMMENT ON COLUMN standing.reasons IS 'Why, in words';
COMMENT ON TABLE transition IS 'Changes of standing, for campaigns to follow; never changed';
COMMENT ON COLUMN transition.program IS 'Program';
COMMENT ON COLUMN transition.number IS '1, 2, 3 ... within the program';
COMMENT ON COLUMN transition.account IS 'Account';
COMMENT ON COLUMN transition.day IS 'As of the end of which day';
COMMENT ON COLUMN transition.from_state IS 'Before; empty for the first';
COMMENT ON COLUMN transition.to_state IS 'After';
COMMENT ON COLUMN transition.reasons IS 'Why, in words';
COMMENT ON TABLE contact IS 'Actions that were taken, or, in the holdout, not taken';
COMMENT ON COLUMN contact.program IS 'Program';
COMMENT ON COLUMN contact.action IS 'The action';
COMMENT ON COLUMN contact.account IS 'Account';
COMMENT ON COLUMN contact.day IS 'On which day of the program''s clock';
COMMENT ON COLUMN contact.arm IS 'treated or control';
COMMENT ON COLUMN contact.cost IS 'What it cost';
COMMENT ON COLUMN contact.value_at_stake IS 'What was at stake then';
COMMENT ON COLUMN contact.actor IS 'Who did it';
