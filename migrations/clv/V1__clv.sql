-- What members bought and gave back: the facts that lifetime value, decline and RFM are made of. Owner: projectors/src/clv.

CREATE TABLE checkpoint (partition smallint PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE cursor (account text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, poison text);

CREATE TABLE purchase (
    program      text COLLATE "C" NOT NULL,
    account      text COLLATE "C" NOT NULL,
    purchase_id  text COLLATE "C" NOT NULL,
    day          date NOT NULL,
    booked_on    date NOT NULL,
    occurred_at  timestamptz NOT NULL,
    channel      text NOT NULL,
    store        text NOT NULL,
    spend        numeric NOT NULL,
    returned     numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (program, account, purchase_id)
);

CREATE TABLE line (
    program           text COLLATE "C" NOT NULL,
    account           text COLLATE "C" NOT NULL,
    purchase_id       text COLLATE "C" NOT NULL,
    line_id           text COLLATE "C" NOT NULL,
    category          text NOT NULL,
    quantity          numeric NOT NULL,
    spend             numeric NOT NULL,
    returned_quantity numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (program, account, purchase_id, line_id)
);

CREATE TABLE refund (
    program      text COLLATE "C" NOT NULL,
    account      text COLLATE "C" NOT NULL,
    account_seq  bigint NOT NULL,
    purchase_id  text COLLATE "C" NOT NULL,
    booked_on    date NOT NULL,
    returned_on  date NOT NULL,
    amount       numeric NOT NULL,
    PRIMARY KEY (program, account, account_seq)
);

-- A day with purchases of which something was kept; it is what the models count.
CREATE VIEW purchase_day AS
SELECT program, account, day, count(*) AS orders, sum(spend - returned) AS spend
FROM purchase WHERE returned = 0 OR returned < spend
GROUP BY program, account, day;

CREATE VIEW member AS
SELECT program, account, min(day) AS first_day, max(day) AS last_day, (count(*) - 1)::integer AS repeats, sum(orders)::bigint AS orders, sum(spend) AS spend,
       round(sum(spend) / sum(orders), 2) AS order_value
FROM purchase_day GROUP BY program, account;

-- Members by the month of their first purchase, and what they did in each month after it.
CREATE VIEW cohort AS
SELECT d.program, date_trunc('month', m.first_day)::date AS cohort,
       ((extract(year FROM d.day) - extract(year FROM m.first_day)) * 12 + extract(month FROM d.day) - extract(month FROM m.first_day))::integer AS month,
       count(DISTINCT d.account) AS members, sum(d.orders)::bigint AS orders, sum(d.spend) AS spend
FROM purchase_day d JOIN member m USING (program, account)
GROUP BY 1, 2, 3;

COMMENT ON TABLE purchase IS 'A purchase of a member, as it was booked';
COMMENT ON COLUMN purchase.program IS 'Program';
COMMENT ON COLUMN purchase.account IS 'Account';
COMMENT ON COLUMN purchase.purchase_id IS 'The purchase''s id, the account''s own';
COMMENT ON COLUMN purchase.day IS 'Its day on the program''s wall clock';
COMMENT ON COLUMN purchase.booked_on IS 'The day (UTC) on which it was booked';
COMMENT ON COLUMN purchase.occurred_at IS 'When it was made';
COMMENT ON COLUMN purchase.channel IS 'Such as store or web';
COMMENT ON COLUMN purchase.store IS 'Which store';
COMMENT ON COLUMN purchase.spend IS 'What was paid for its lines, tax included, shipping not';
COMMENT ON COLUMN purchase.returned IS 'Of that, what was given back, by lines or by amount';
COMMENT ON TABLE line IS 'A line of a purchase';
COMMENT ON COLUMN line.program IS 'Program';
COMMENT ON COLUMN line.account IS 'Account';
COMMENT ON COLUMN line.purchase_id IS 'The purchase';
COMMENT ON COLUMN line.line_id IS 'The line within it';
COMMENT ON COLUMN line.category IS 'Category of goods';
COMMENT ON COLUMN line.quantity IS 'How many, or how much';
COMMENT ON COLUMN line.spend IS 'What was paid for it, tax included';
COMMENT ON COLUMN line.returned_quantity IS 'How many of them were given back; returns by amount name no line';
COMMENT ON TABLE refund IS 'What a return gave back of a purchase''s spend';
COMMENT ON COLUMN refund.program IS 'Program';
COMMENT ON COLUMN refund.account IS 'Account';
COMMENT ON COLUMN refund.account_seq IS 'The return''s record within the account';
COMMENT ON COLUMN refund.purchase_id IS 'The purchase';
COMMENT ON COLUMN refund.booked_on IS 'The day (UTC) on which it was booked';
COMMENT ON COLUMN refund.returned_on IS 'The day (UTC) on which the goods were given back';
COMMENT ON COLUMN refund.amount IS 'Money; its parts sum to what the whole would be';
COMMENT ON VIEW purchase_day IS 'Days on which a member bought something and kept some of it';
COMMENT ON COLUMN purchase_day.program IS 'Program';
COMMENT ON COLUMN purchase_day.account IS 'Account';
COMMENT ON COLUMN purchase_day.day IS 'The day on the program''s wall clock';
COMMENT ON COLUMN purchase_day.orders IS 'Orders of which something was kept';
COMMENT ON COLUMN purchase_day.spend IS 'What was paid for them and not given back';
COMMENT ON VIEW member IS 'A member''s purchases so far';
COMMENT ON COLUMN member.program IS 'Program';
COMMENT ON COLUMN member.account IS 'Account';
COMMENT ON COLUMN member.first_day IS 'The first day with a purchase';
COMMENT ON COLUMN member.last_day IS 'The last day with a purchase';
COMMENT ON COLUMN member.orders IS 'Orders of which something was kept';
COMMENT ON COLUMN member.repeats IS 'Days with a purchase after the first such day';
COMMENT ON COLUMN member.spend IS 'What was paid and not given back';
COMMENT ON COLUMN member.order_value IS 'The mean of an order, net of returns';
COMMENT ON VIEW cohort IS 'Members by the month of their first purchase';
COMMENT ON COLUMN cohort.program IS 'Program';
COMMENT ON COLUMN cohort.cohort IS 'First day of the month of the first purchase';
COMMENT ON COLUMN cohort.month IS 'Months after it, from 0';
COMMENT ON COLUMN cohort.members IS 'How many of them bought in that month';
COMMENT ON COLUMN cohort.orders IS 'Their orders in it';
COMMENT ON COLUMN cohort.spend IS 'What they paid in it and did not give back';
