// Purchases at an overall rate; autocannon corrects latencies for coordinated omission where a rate is given.
const autocannon = require('autocannon')

const [url, rate, seconds] = process.argv.slice(2)
const occurredAt = new Date().toISOString()
let n = 0
const body = () => {
  n += 1
  return JSON.stringify({
    purchase_id: `p${n}`, account_id: `m${n % 1000}`, occurred_at: occurredAt, currency: 'GBP',
    lines: [{ line_id: '1', sku: 'A', quantity: 1, unit_price: '12.50' }]
  })
}
autocannon({
  url, connections: 50, overallRate: Number(rate), duration: Number(seconds), method: 'POST', headers: { 'content-type': 'application/json' },
  requests: [{ setupRequest: (request) => ({ ...request, body: body() }) }]
}).then((r) => {
  const l = r.latency
  console.log(`${r.requests.average.toFixed(0)} commands/s, ${r['2xx']} accepted, ${r.non2xx + r.errors} not: ` +
    `p50 ${l.p50} ms, p90 ${l.p90} ms, p99 ${l.p99} ms, max ${l.max} ms`)
})
