// The shop: takes orders and lists them. Orders live in the database alone; what this process
// holds can be lost at any time.
//
//   GET  /who             which instance answers
//   GET  /orders?limit=N  the newest orders and how many there are
//   POST /orders          {"item": "...", "key": "..."} takes one; an order with a known key is the
//                         same order, so asking again is safe
"use strict";

const crypto = require("crypto");
const http = require("http");
const os = require("os");
const { Pool } = require("pg");

const PATIENCE_MS = 30_000; // how long a request waits for the database
const PAUSE_MS = 50; // between two tries
const BODY_BYTES_MAX = 10_000;
const NAME_LIFE_MS = 1_500; // how long somebody may still know our address by name

const SCHEMA = `create table if not exists orders (
  id bigint generated always as identity primary key,
  key text not null unique,
  item text not null,
  taken_by text not null,
  taken_at timestamptz not null default now()
)`;

const address = Object.values(os.networkInterfaces()).flat()
  .find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.1";
const me = { instance: process.env.MESOS_TASK_ID ?? os.hostname(), address };

const database = new Pool({
  host: process.env.DATABASE_HOST,
  user: "shop",
  database: "shop",
  password: process.env.DATABASE_PASSWORD,
  max: 10,
  connectionTimeoutMillis: 1_000,
  query_timeout: 5_000,
  keepAlive: true,
});
// A connection that breaks while nobody uses it: the pool has let go of it already.
database.on("error", (error) => console.error(`database: ${error.message}`));

class BadRequest extends Error {}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Runs a statement that may be run again, until it succeeds: the database may be moving. */
async function query(text, values) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await database.query(text, values);
    } catch (error) {
      if (!isPassing(error) || Date.now() > deadline) throw error;
      if (error.code === "42P01") await createTable();
      await pause(PAUSE_MS);
    }
  }
}

/** Whether another try can help: a lost connection, a server that starts or stops, no table yet. */
function isPassing({ severity, code }) {
  const isServersWord = severity !== undefined;
  return !isServersWord || /^(08|53|57P|42P01)/.test(code);
}

/** Two instances may do this at once, and one of them then learns that it is done. */
async function createTable() {
  await database.query(SCHEMA).catch((error) => console.error(`create table: ${error.message}`));
}

async function takeOrder({ item, key = crypto.randomUUID() }) {
  if (typeof item !== "string" || !item.trim()) throw new BadRequest("an order names an item");
  if (typeof key !== "string") throw new BadRequest("a key is a text");
  const { rows: [order] } = await query(
    `insert into orders (key, item, taken_by) values ($1, $2, $3)
     on conflict (key) do update set key = excluded.key returning id::int, key, item, taken_by`,
    [key, item.trim(), me.address],
  );
  return order;
}

async function listOrders(limit) {
  if (!Number.isInteger(limit) || limit < 0) throw new BadRequest("limit is a number");
  const { rows: orders } = await query(
    "select id::int, key, item, taken_by from orders order by id desc limit $1", [limit],
  );
  const { rows: [{ count }] } = await query("select count(*)::int as count from orders");
  return { count, orders };
}

async function readJson(request) {
  let text = "";
  for await (const part of request.setEncoding("utf8")) {
    text += part;
    if (text.length > BODY_BYTES_MAX) throw new BadRequest("the order is too long");
  }
  try {
    return Object(JSON.parse(text));
  } catch {
    throw new BadRequest("the order is not JSON");
  }
}

async function answer(request) {
  const url = new URL(request.url, "http://shop");
  switch (`${request.method} ${url.pathname}`) {
    case "GET /who": return [200, me];
    case "GET /orders": return [200, await listOrders(Number(url.searchParams.get("limit") ?? 20))];
    case "POST /orders": return [201, await takeOrder(await readJson(request))];
    default: return [404, { message: `no ${request.method} ${url.pathname} here` }];
  }
}

async function serve(request, response) {
  const [status, body] = await answer(request).catch((error) => {
    if (error instanceof BadRequest) return [400, { message: error.message }];
    console.error(`${request.method} ${request.url}: ${error.message}`);
    return [503, { message: `the database does not answer: ${error.message}` }];
  });
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body) + "\n");
}

const server = http.createServer(serve);
server.listen(3000, () => console.log(`${me.instance} listens on ${me.address}:3000`));

// Told to end, it answers as long as its address is known, finishes what it began, and goes.
process.once("SIGTERM", async () => {
  console.log("told to end");
  await pause(NAME_LIFE_MS);
  server.close(() => database.end().then(() => process.exit(0)));
  server.closeIdleConnections();
});
