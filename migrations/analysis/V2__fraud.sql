-- Cases of suspected fraud, and all that was done about them. Owner: analysis.

CREATE TABLE watched (
    stream    text NOT NULL,
    partition smallint NOT NULL,
    position  bigint NOT NULL,
    PRIMARY KEY (stream, partition)
);

CREATE TABLE fraud_case (
    program       text COLLATE "C" NOT NULL,
    case_id       text COLLATE "C" NOT NULL,
    rule          text NOT NULL,
    rule_version  integer NOT NULL,
    severity      text NOT NULL,
    severity_rank smallint NOT NULL,
    subject_kind  text NOT NULL,
    subject       text NOT NULL,
    account       text COLLATE "C" NOT NULL,
    day           date NOT NULL,
    state         text NOT NULL,
    assignee      text NOT NULL DEFAULT '',
    opened_at     timestamptz NOT NULL,
    signals       bigint NOT NULL,
    measure       bigint NOT NULL,
    anomaly_score double precision NOT NULL,
    explanation   text NOT NULL,
    PRIMARY KEY (program, case_id)
);
CREATE INDEX fraud_case_by_state ON fraud_case (program, state, severity_rank DESC, opened_at DESC, case_id);
CREATE INDEX fraud_case_by_subject ON fraud_case (program, rule, subject);

CREATE TABLE fraud_event (
    program  text COLLATE "C" NOT NULL,
    case_id  text COLLATE "C" NOT NULL,
    number   integer NOT NULL,
    at       timestamptz NOT NULL,
    actor    text NOT NULL,
    kind     text NOT NULL,
    note     text NOT NULL,
    evidence jsonb NOT NULL,
    PRIMARY KEY (program, case_id, number)
);

COMMENT ON TABLE watched IS 'How far the rules have looked';
COMMENT ON COLUMN watched.stream IS 'signal or refusal';
COMMENT ON COLUMN watched.partition IS 'The partition of the log';
COMMENT ON COLUMN watched.position IS 'The position that is looked at next';
COMMENT ON TABLE fraud_case IS 'A rule''s finding on one subject and day, and where it stands';
COMMENT ON COLUMN fraud_case.program IS 'Program';
COMMENT ON COLUMN fraud_case.case_id IS 'A hash of rule, subject and day';
COMMENT ON COLUMN fraud_case.rule IS 'The rule';
COMMENT ON COLUMN fraud_case.rule_version IS 'Its version';
COMMENT ON COLUMN fraud_case.severity IS 'low, medium, high or critical';
COMMENT ON COLUMN fraud_case.severity_rank IS '0 to 3';
COMMENT ON COLUMN fraud_case.subject_kind IS 'account, actor, cashier, till, device, card, store or reference';
COMMENT ON COLUMN fraud_case.subject IS 'Whom or what it is about';
COMMENT ON COLUMN fraud_case.account IS 'The account of the signal that opened it';
COMMENT ON COLUMN fraud_case.day IS 'The day (UTC) of the signals';
COMMENT ON COLUMN fraud_case.state IS 'open, assigned, confirmed or dismissed';
COMMENT ON COLUMN fraud_case.assignee IS 'Who looks at it';
COMMENT ON COLUMN fraud_case.opened_at IS 'When it was opened';
COMMENT ON COLUMN fraud_case.signals IS 'How many signals met the rule';
COMMENT ON COLUMN fraud_case.measure IS 'The most that any of the rule''s windows counted';
COMMENT ON COLUMN fraud_case.anomaly_score IS 'Robust standard deviations of the signal''s points from those of its kind in the day before';
COMMENT ON COLUMN fraud_case.explanation IS 'Why, in words';
COMMENT ON TABLE fraud_event IS 'What happened to a case; never changed';
COMMENT ON COLUMN fraud_event.program IS 'Program';
COMMENT ON COLUMN fraud_event.case_id IS 'The case';
COMMENT ON COLUMN fraud_event.number IS '1, 2, 3 ... within the case';
COMMENT ON COLUMN fraud_event.at IS 'When';
COMMENT ON COLUMN fraud_event.actor IS 'Who';
COMMENT ON COLUMN fraud_event.kind IS 'opened, seen_again, assigned, noted, confirmed, dismissed or frozen';
COMMENT ON COLUMN fraud_event.note IS 'In words';
COMMENT ON COLUMN fraud_event.evidence IS 'The signals, with the positions of their records';
