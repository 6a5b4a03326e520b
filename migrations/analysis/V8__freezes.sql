-- Freezes that rules asked for; evidence of cases that are no longer confirmed. Owner: analysis.

CREATE TABLE fraud_freeze (
    program     text COLLATE "C" NOT NULL,
    case_id     text COLLATE "C" NOT NULL,
    account     text COLLATE "C" NOT NULL,
    rule        text NOT NULL,
    asked_at    timestamptz NOT NULL,
    answered_at timestamptz,
    PRIMARY KEY (program, case_id, account)
);
CREATE INDEX fraud_freeze_pending ON fraud_freeze (asked_at) WHERE answered_at IS NULL;

COMMENT ON TABLE fraud_freeze IS 'Accounts that a rule with block freezes, each once a case; asked for again until the ledger has answered';
COMMENT ON COLUMN fraud_freeze.program IS 'Program';
COMMENT ON COLUMN fraud_freeze.case_id IS 'The case';
COMMENT ON COLUMN fraud_freeze.account IS 'The account to freeze';
COMMENT ON COLUMN fraud_freeze.rule IS 'The rule';
COMMENT ON COLUMN fraud_freeze.asked_at IS 'When the rule found something';
COMMENT ON COLUMN fraud_freeze.answered_at IS 'When the ledger had answered the command, granted or refused; null while it is pending';

-- Before this version, a confirmed case that was assigned again left its evidence behind.
DELETE FROM fraud_confirmed f WHERE NOT EXISTS (
    SELECT FROM fraud_case c WHERE c.program = f.program AND c.case_id = f.case_id AND c.state = 'confirmed');
