// A question and the options of the form -> a request, and what came of it on the page.

import { element, find, handFocus } from "./dom.js";
import { count, percent, say } from "./words.js";
import { request } from "./service.js";
import { passageCard, waitingCards } from "./passages.js";
import { streamAnswer } from "./answer.js";

/** Return the body of POST /v1/search that the form and the chosen files ask for. */
export function searchBody(query, chosen) {
  const thresholds = { usual: null, all: 0, auto: "auto", least: find("#least").valueAsNumber / 100 };
  return {
    query,
    top_k: find("#top-k").valueAsNumber || 5,
    threshold: thresholds[find("#threshold").value] ?? null,
    files: chosen.length > 0 ? chosen : null,
    language: find("#passage-language").value || null,
  };
}

/** The results of the question asked last. */
export class Results {
  /** @param {object} actions of the page: `onlyIn(file)`, `again(changes)`, `widen()`, `addFiles()`. */
  constructor(actions) {
    this.actions = actions;
    this.asked = null; // {body, reply} or {body, error}
    this.running = null;
  }

  /** Search; a newer question ends this one. */
  async show(body, generator) {
    this.running?.abort();
    const { signal } = (this.running = new AbortController());
    this.asked = null;
    this.#wait();
    try {
      const reply = await request("POST", "v1/search", body, signal);
      this.asked = { body, reply };
      this.render();
      find("#notice").textContent = this.#announcement();
      if (generator && reply.passages.length > 0) await streamAnswer(find("#answer"), chatBody(body, generator), signal);
    } catch (error) {
      if (signal.aborted) return;
      this.asked = { body, error };
      this.render();
    }
  }

  /** Write what is known, in the language spoken now. */
  render() {
    const { reply, error } = this.asked ?? {};
    const passages = reply?.passages ?? [];
    find("#results").setAttribute("aria-busy", "false");
    find("#summary").textContent = reply && passages.length > 0 ? this.#summary() : "";
    find("#notes").replaceChildren(...(reply?.notes ?? []).map((note) => element("li.note", {}, note)));
    find("#passages").replaceChildren(
      ...passages.map((passage, place) => passageCard(passage, place + 1, this.actions.onlyIn)),
    );
    if (error) this.#fail(error);
    else if (reply && passages.length === 0) this.#nothing();
    else message(null);
  }

  /** Forget the last question. */
  clear() {
    this.running?.abort();
    this.running = this.asked = null;
    find("#answer").hidden = true;
    this.render();
  }

  #wait() {
    handFocus(find("#results"), find("#results"));
    message(null);
    find("#answer").hidden = true;
    find("#notes").replaceChildren();
    find("#results").setAttribute("aria-busy", "true");
    find("#summary").textContent = say("asking");
    find("#passages").replaceChildren(...waitingCards());
  }

  #summary() {
    const { passages, seconds, threshold } = this.asked.reply;
    const spent = Object.values(seconds ?? {}).reduce((sum, part) => sum + part, 0);
    const digits = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
    const found = say("found", passages.length, count(spent, digits));
    return threshold ? `${found} · ${say("above", percent(threshold))}` : found;
  }

  #announcement() {
    const { passages } = this.asked.reply;
    const best = passages[0]?.answer?.text;
    return passages.length === 0 ? find("#message h2").textContent : [this.#summary(), best && say("best", best)].filter(Boolean).join(". ");
  }

  #nothing() {
    const { body, reply } = this.asked;
    if (reply.threshold) {
      const nearest = () => this.actions.again({ threshold: 0 });
      message("search", say("nothingAbove", percent(reply.threshold)), say("nothingAboveDetail"), [say("showNearest"), nearest]);
    } else if (body.files || body.language) {
      message("search", say("nothingFiltered"), say("nothingFilteredDetail"), [say("everywhere"), this.actions.widen]);
    } else message("search", say("nothing"), "");
  }

  #fail(error) {
    const detail = error.wait ? say("busy", error.wait) : error.message || say("unreachable");
    message("warning", say("failed"), detail, [say("again"), () => this.actions.again({})], true);
    find("#notice").textContent = `${say("failed")}. ${detail}`;
  }
}

/** Show a card with a title, a line and a button, in place of passages; null takes it away. */
export function message(name, title = "", detail = "", action = null, failed = false) {
  const card = find("#message");
  card.hidden = name === null;
  card.classList.toggle("failed", failed);
  card.replaceChildren();
  if (name === null) return;
  const [words, act] = action ?? [];
  const button = action && element("button.main-button", { type: "button", on: { click: act } }, words);
  card.append(element(`span.icon.big.icon-${name}`, { "aria-hidden": "true" }), element("h2", {}, title), element("p", {}, detail));
  if (button) card.append(button);
}

function chatBody(body, generator) {
  const { query, ...options } = body;
  return { ...options, model: generator, messages: [{ role: "user", content: query }] };
}
