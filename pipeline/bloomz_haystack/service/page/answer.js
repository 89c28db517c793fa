// The generated answer: streamed, its citations [1] lead to the passages they name.

import { element, find, goTo, handFocus } from "./dom.js";
import { say } from "./words.js";
import { Refusal, stream } from "./service.js";

const CITATION = /\[(\d+(?:\s*,\s*\d+)*)\]/g;

/**
 * Write the answer to a question into a card, as it comes.
 * @param {HTMLElement} card where it is written.
 * @param {object} body of POST /v1/chat/completions, without `stream`.
 * @param {AbortSignal} signal of a newer question.
 */
export async function streamAnswer(card, body, signal) {
  const stopped = new AbortController();
  const view = answerView(card, body.model, () => stopped.abort());
  try {
    const sources = [];
    let text = "";
    for await (const event of stream("v1/chat/completions", { ...body, stream: true }, AbortSignal.any([signal, stopped.signal]))) {
      if (event.error) throw new Refusal(event.error.message, 500);
      const delta = event.choices?.[0]?.delta ?? {};
      sources.push(...(delta.annotations ?? []).map((annotation) => annotation.passage).filter(Boolean));
      text += delta.content ?? "";
      view.text.replaceChildren(...cited(text, sources));
    }
    view.end(say("written"));
  } catch (error) {
    if (signal.aborted) return;
    view.end(stopped.signal.aborted ? say("stopped") : error.message || say("unreachable"), !stopped.signal.aborted);
  }
}

function answerView(card, model, stop) {
  const text = element("p.text");
  const state = element("span.state", { role: "status" }, say("writing"));
  const button = element("button.quiet", { type: "button", on: { click: stop } }, say("stop"));
  const head = element("div.answer-head", {}, element("h2", {}, say("answer")), state, button);
  const note = element("p.note", {}, say("writtenBy", model));
  card.replaceChildren(head, text, note);
  card.hidden = false;
  card.setAttribute("aria-busy", "true");
  const end = (words, failed = false) => {
    card.setAttribute("aria-busy", "false");
    card.classList.toggle("failed", failed);
    state.textContent = words;
    if (text.textContent === "") [text, note].forEach((part) => part.remove());
    state.classList.toggle("read-only", words === say("written"));
    handFocus(button, find("#results"));
    button.remove();
  };
  card.classList.remove("failed");
  return { text, end };
}

/** Return the text with a button for each number that cites a known source. */
function cited(text, sources) {
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(CITATION)) {
    const numbers = found[1].split(",").map(Number);
    if (!numbers.every((number) => sourceOf(number, sources))) continue;
    parts.push(text.slice(from, found.index), ...numbers.map((number) => citation(number, sourceOf(number, sources))));
    from = found.index + found[0].length;
  }
  return [...parts, text.slice(from)];
}

const sourceOf = (number, sources) => sources.find((source, place) => (source.index ?? place + 1) === number);

function citation(number, source) {
  const name = source.title ?? source.source ?? say("untitled");
  const label = say("source", number, name);
  const show = () => {
    const card = find(`[data-passage="${CSS.escape(source.id)}"]`);
    if (card) goTo(card);
  };
  return element("button.citation", { type: "button", title: label, "aria-label": label, on: { click: show } }, number);
}
