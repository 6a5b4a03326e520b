// Buys, returns, redeems and reads with a client whose types are made of the API's description, and prints what was answered.

import createClient from "openapi-fetch";
import type { components, paths } from "./api";

declare const process: { argv: string[]; exit(code: number): never };

type Problem = components["schemas"]["Problem"];

const [baseUrl, key, account] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
const program = "shop";

/** The answer; a problem ends the run. */
function answered<T>(result: { data?: T; error?: unknown }): T {
  if (result.data === undefined) {
    console.error(result.error);
    return process.exit(1);
  }
  return result.data;
}

const path = { program };
const line: components["schemas"]["LineBody"] = { line_id: "1", sku: "A", quantity: "2", unit_price: "150.00" };
const bought = answered(
  await client.POST("/v1/programs/{program}/purchases", {
    params: { path },
    body: { purchase_id: `${account}-P`, account_id: account, occurred_at: "2010-02-01T12:00:00Z", currency: "GBP", lines: [line] },
  }),
);
const returned = answered(
  await client.POST("/v1/programs/{program}/returns", {
    params: { path },
    body: {
      return_id: `${account}-T`,
      account_id: account,
      purchase_id: `${account}-P`,
      occurred_at: "2010-02-20T12:00:00Z",
      lines: [{ line_id: "1", quantity: "1" }],
    },
  }),
);
const redemption = (id: string, points: number) =>
  client.POST("/v1/programs/{program}/redemptions", {
    params: { path },
    body: { redemption_id: `${account}-${id}`, account_id: account, points },
  });
const redeemed = answered(await redemption("R", 100));
const refused: Problem | undefined = (await redemption("X", 1000)).error;
const read = answered(
  await client.GET("/v1/programs/{program}/accounts/{account_id}", {
    params: { path: { program, account_id: account }, query: { min_position: redeemed.position } },
  }),
);
const books = answered(
  await client.GET("/v1/programs/{program}/liability/trial-balance", {
    params: { path, query: { min_position: redeemed.position, basis: "booked" } },
  }),
);
const stranger = createClient<paths>({ baseUrl });
const unknown: Problem | undefined = (await stranger.GET("/v1/programs")).error;

const status: "active" | "closed" | "frozen" | "inactive" | "pending" = read.status;
const qualifying: number | string = read.tier.qualifying;
const buckets: string[] = books.buckets.filter((held) => held.points !== 0).map((held) => held.bucket);
console.log(
  JSON.stringify({
    earned: bought.points.earned,
    clawed_back: returned.points.clawed_back,
    redeemed: redeemed.points.redeemed,
    event: redeemed.events[0]?.type,
    refused: refused?.code,
    unknown: unknown?.code,
    status,
    qualifying,
    since: read.tier.since,
    available: read.balance.available,
    buckets,
    sum: books.sum,
  }),
);
