-- A member of whom the book has refunds but no purchase that was kept has a row too: what was given back is less than nothing spent.

CREATE OR REPLACE VIEW member AS
SELECT program, account, d.first_day, d.last_day, coalesce(d.repeats, 0) AS repeats, coalesce(d.orders, 0) AS orders,
       coalesce(d.spend, 0) - coalesce(u.amount, 0) AS spend, d.order_value
FROM (SELECT program, account, min(day) AS first_day, max(day) AS last_day, (count(*) - 1)::integer AS repeats, sum(orders)::bigint AS orders,
             sum(spend) AS spend, round(sum(spend) / sum(orders), 2) AS order_value
      FROM purchase_day GROUP BY program, account) d
FULL JOIN (SELECT program, account, sum(amount) AS amount FROM unmatched_refund GROUP BY program, account) u USING (program, account);

COMMENT ON VIEW member IS 'A member''s purchases and refunds so far';
COMMENT ON COLUMN member.first_day IS 'The first day with a purchase; null of a member of whom there are refunds only';
COMMENT ON COLUMN member.last_day IS 'The last day with a purchase; null likewise';
COMMENT ON COLUMN member.order_value IS 'The mean of an order, net of returns; null where there is no order';
COMMENT ON COLUMN purchase_day.spend IS 'What was paid for them and not given back; refunds of purchases that the book does not have are in unmatched_refund';
COMMENT ON COLUMN cohort.spend IS 'What they paid in it and did not give back; refunds of purchases that the book does not have are in unmatched_refund';
