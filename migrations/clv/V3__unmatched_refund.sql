-- Money given back for purchases that the book does not have. Days and orders are what the book knows; what a member spent is less by it.

CREATE TABLE unmatched_refund (
    program      text COLLATE "C" NOT NULL,
    account      text COLLATE "C" NOT NULL,
    refund_id    text COLLATE "C" NOT NULL,
    account_seq  bigint NOT NULL,
    booked_on    date NOT NULL,
    returned_on  date NOT NULL,
    amount       numeric NOT NULL,
    PRIMARY KEY (program, account, refund_id)
);

CREATE OR REPLACE VIEW member AS
SELECT d.program, d.account, min(day) AS first_day, max(day) AS last_day, (count(*) - 1)::integer AS repeats, sum(orders)::bigint AS orders,
       sum(spend) - coalesce((SELECT sum(amount) FROM unmatched_refund u WHERE (u.program, u.account) = (d.program, d.account)), 0) AS spend,
       round(sum(spend) / sum(orders), 2) AS order_value
FROM purchase_day d GROUP BY d.program, d.account;

COMMENT ON TABLE unmatched_refund IS 'Money given back for a purchase that the book does not have; it takes no points';
COMMENT ON COLUMN unmatched_refund.program IS 'Program';
COMMENT ON COLUMN unmatched_refund.account IS 'Account';
COMMENT ON COLUMN unmatched_refund.refund_id IS 'The refund''s id, the account''s own';
COMMENT ON COLUMN unmatched_refund.account_seq IS 'Its record within the account';
COMMENT ON COLUMN unmatched_refund.booked_on IS 'The day (UTC) on which it was booked';
COMMENT ON COLUMN unmatched_refund.returned_on IS 'The day (UTC) on which the money was given back';
COMMENT ON COLUMN unmatched_refund.amount IS 'Money';
COMMENT ON COLUMN member.spend IS 'What was paid and not given back, less refunds of purchases that the book does not have';
