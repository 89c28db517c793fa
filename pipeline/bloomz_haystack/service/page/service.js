// Requests to the service -> its JSON, or a Refusal with one line to show. Knows nothing of what the page looks like.

import { tab } from "./memory.js";

const KEPT = "bloomz-token";
let tokenDialog = null; // (refused: boolean) => Promise<string>; rejects when the person gives up
let pendingToken = null;

/** What the service, or the network, has against a request. */
export class Refusal extends Error {
  /** `status` is 0 where no reply came; `wait` the seconds after which it may be tried again, or null. */
  constructor(message, status = 0, wait = null) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

/** Name the dialog that asks for a token; it is shown when the service answers 401. */
export function askTokenWith(dialog) {
  tokenDialog = dialog;
}

/** Return the JSON of a reply; `body` is an object, sent as JSON, or a FormData. */
export async function request(method, path, body = null, signal = undefined) {
  return (await send(method, path, body, signal)).json();
}

/** Return whether the models are loaded. */
export async function ready() {
  return (await reach("readyz", { cache: "no-store" })).ok;
}

/** Yield the JSON of each server-sent event of a streamed reply. */
export async function* stream(path, body, signal) {
  const reply = await send("POST", path, body, signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest = (rest + (value ?? "")).replaceAll("\r\n", "\n");
    const events = rest.split("\n\n");
    rest = done ? "" : events.pop();
    for (const event of events) {
      const data = eventData(event);
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
    if (done) return;
  }
}

const eventData = (event) =>
  event
    .split("\n")
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5).trimStart())
    .join("\n");

async function send(method, path, body, signal) {
  for (;;) {
    const token = tab.get(KEPT);
    const reply = await reach(path, { method, signal, ...payload(body, token) });
    if (reply.ok) return reply;
    if (reply.status !== 401 || !tokenDialog) throw await refusal(reply);
    // Another request may have asked for the token meanwhile; one dialog serves them all.
    if (tab.get(KEPT) === token) await newToken(token !== null);
  }
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal("", 0);
  }
}

function payload(body, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body === null || body instanceof FormData) return { headers, body };
  return { headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

async function newToken(refused) {
  pendingToken ??= tokenDialog(refused).finally(() => (pendingToken = null));
  tab.set(KEPT, await pendingToken);
}

async function refusal(reply) {
  const found = await reply.json().catch(() => null);
  const wait = Number.parseInt(reply.headers.get("Retry-After") ?? "", 10);
  return new Refusal(found?.error?.message ?? `HTTP ${reply.status}`, reply.status, Number.isNaN(wait) ? null : wait);
}
