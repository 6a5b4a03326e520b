-- What was estimated from the read models: fits and scores. Not a fold of the log: made on demand or on a schedule. Owner: analysis.

CREATE TABLE fit (
    program      text COLLATE "C" NOT NULL,
    version      integer NOT NULL,
    fitted_at    timestamptz NOT NULL,
    since        date NOT NULL,
    until        date NOT NULL,
    holdout_days integer NOT NULL,
    members      bigint NOT NULL,
    in_force     boolean NOT NULL,
    why          text NOT NULL,
    report       jsonb NOT NULL,
    PRIMARY KEY (program, version)
);

CREATE TABLE score (
    program            text COLLATE "C" NOT NULL,
    account            text COLLATE "C" NOT NULL,
    as_of              date NOT NULL,
    fit_version        integer NOT NULL,
    rung               text NOT NULL,
    recency_score      smallint NOT NULL,
    frequency_score    smallint NOT NULL,
    monetary_score     smallint NOT NULL,
    alive              double precision NOT NULL,
    expected_purchases double precision NOT NULL,
    order_value        double precision NOT NULL,
    lifetime_value     double precision NOT NULL,
    PRIMARY KEY (program, account)
);
CREATE INDEX score_by_value ON score (program, lifetime_value DESC, account);

COMMENT ON TABLE fit IS 'Fits of the lifetime value models, every one that was made';
COMMENT ON COLUMN fit.program IS 'Program';
COMMENT ON COLUMN fit.version IS '1, 2, 3 ... within the program';
COMMENT ON COLUMN fit.fitted_at IS 'When it was made';
COMMENT ON COLUMN fit.since IS 'The first day of the data';
COMMENT ON COLUMN fit.until IS 'The last day of the data';
COMMENT ON COLUMN fit.holdout_days IS 'The days at the end that the check was made on';
COMMENT ON COLUMN fit.members IS 'Members with a purchase';
COMMENT ON COLUMN fit.in_force IS 'Whether scores may be made by it; the latest such fit counts';
COMMENT ON COLUMN fit.why IS 'Why it is in force, or not';
COMMENT ON COLUMN fit.report IS 'Parameters, standard errors, log-likelihoods, holdout';
COMMENT ON TABLE score IS 'What each member is worth, by the fit in force when it was scored';
COMMENT ON COLUMN score.program IS 'Program';
COMMENT ON COLUMN score.account IS 'Account';
COMMENT ON COLUMN score.as_of IS 'As of the end of which day';
COMMENT ON COLUMN score.fit_version IS 'By which fit';
COMMENT ON COLUMN score.rung IS 'Rung of the ladder of loyalty';
COMMENT ON COLUMN score.recency_score IS '1 to 5: 1 + the share of members whose last purchase is older, in fifths; members alike score alike';
COMMENT ON COLUMN score.frequency_score IS '1 to 5: likewise by orders';
COMMENT ON COLUMN score.monetary_score IS '1 to 5: likewise by spend net of returns';
COMMENT ON COLUMN score.alive IS 'Probability that the member still buys';
COMMENT ON COLUMN score.expected_purchases IS 'Days with a purchase to expect within the rulebook''s horizon';
COMMENT ON COLUMN score.order_value IS 'What a day''s purchases will come to, on average';
COMMENT ON COLUMN score.lifetime_value IS 'Discounted margin within the horizon, in the program''s currency';
