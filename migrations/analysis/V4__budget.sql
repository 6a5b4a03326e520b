-- Budgets that are nearly spent. Owner: analysis.

CREATE TABLE budget_alert (
    program     text COLLATE "C" NOT NULL,
    period_from date NOT NULL,
    raised_on   date NOT NULL,
    planned     numeric NOT NULL,
    actual      numeric NOT NULL,
    spent_on    date,
    PRIMARY KEY (program, period_from)
);

COMMENT ON TABLE budget_alert IS 'Budgets of which so much was spent that somebody should know; raised once a period';
COMMENT ON COLUMN budget_alert.program IS 'Program';
COMMENT ON COLUMN budget_alert.period_from IS 'The first day of the budget''s period';
COMMENT ON COLUMN budget_alert.raised_on IS 'The day by the program''s clock';
COMMENT ON COLUMN budget_alert.planned IS 'What was planned then, in the program''s currency';
COMMENT ON COLUMN budget_alert.actual IS 'What the points given had cost by then';
COMMENT ON COLUMN budget_alert.spent_on IS 'The day on which all is spent at the pace of then; null where it lasts';
