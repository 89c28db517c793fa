// Passages of a reply -> cards, with the sentence that answers marked.

import { element, icon } from "./dom.js";
import { percent, count, say } from "./words.js";

const EXCERPT = 420; // characters of a passage shown at first, around the answer
const BEFORE = 140; // of them, before the answer

/**
 * Return the card of a passage.
 * @param {object} passage of POST /v1/search.
 * @param {number} number its place, from 1.
 * @param {(source: string) => void} onlyIn is called with a file to search in alone.
 */
export function passageCard(passage, number, onlyIn) {
  const name = passage.title ?? passage.source ?? say("untitled");
  const heading = element("h3", { id: `passage-title-${number}` }, name);
  const card = element("li.card.passage", {
    id: `passage-${number}`,
    tabindex: -1,
    "aria-labelledby": heading.id,
    "data-passage": passage.id,
  });
  const { text, button } = passageText(passage);
  const head = element("div.passage-head", {}, element("span.rank", {}, count(number)), heading, scoreBar(passage));
  card.append(head, text, element("div.passage-foot", {}, ...origin(passage, onlyIn), button));
  return card;
}

function scoreBar({ score, similarity }) {
  const cosine = typeof similarity === "number" ? count(similarity, { maximumFractionDigits: 2 }) : null;
  const detail = say("relevanceDetail", percent(score), cosine);
  const fill = element("span.bar-fill");
  fill.style.width = `${100 * score}%`;
  const bar = element(
    "span.bar",
    {
      role: "meter",
      "aria-label": say("relevance"),
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      "aria-valuenow": Math.round(100 * score),
      "aria-valuetext": percent(score),
    },
    fill,
  );
  return element("div.score", { title: detail }, bar, element("span", { "aria-hidden": "true" }, percent(score)));
}

function passageText({ content, answer, meta }) {
  const points = Array.from(content); // the service counts code points, a JavaScript string UTF-16 units
  const span = answer ? [answer.start, answer.end] : [0, 0];
  const excerpt = excerptOf(points, span);
  const text = element("p.text", { lang: meta?.language });
  text.append(...marked(points, span, excerpt));
  if (excerpt[0] === 0 && excerpt[1] === points.length) return { text, button: null };
  const button = element("button.quiet.whole", { type: "button", "aria-expanded": "false" }, say("showWhole"));
  button.addEventListener("click", () => {
    const whole = button.getAttribute("aria-expanded") === "false";
    text.replaceChildren(...marked(points, span, whole ? [0, points.length] : excerpt));
    button.setAttribute("aria-expanded", String(whole));
    button.textContent = say(whole ? "showLess" : "showWhole");
  });
  return { text, button };
}

/** Return where an excerpt around the answer begins and ends, between two words; all of a text hardly longer. */
function excerptOf(points, [start, end]) {
  if (points.length <= EXCERPT * 1.2) return [0, points.length];
  let first = Math.max(0, start - BEFORE);
  let last = Math.min(points.length, Math.max(end + BEFORE, first + EXCERPT));
  while (first > 0 && first < start && points[first - 1].trim()) first += 1;
  while (last < points.length && last > end && points[last].trim()) last -= 1;
  return [first, last];
}

function marked(points, [start, end], [first, last]) {
  const part = (from, to) => points.slice(from, to).join("");
  const mark = element(
    "mark",
    { "data-begins": say("answerBegins"), "data-ends": say("answerEnds") },
    part(start, end),
  );
  return [
    first > 0 && "…\u00a0",
    part(first, Math.max(start, first)),
    end > start && mark,
    part(Math.max(end, first), last),
    last < points.length && "\u00a0…",
  ].filter(Boolean);
}

function origin({ source, title, page, answer, meta, copies }, onlyIn) {
  const number = answer?.page ?? page;
  const others = (copies ?? []).map((copy) => copy.source ?? copy.file_path ?? copy).filter((name) => typeof name === "string");
  return [
    source &&
      element(
        "button.source",
        { type: "button", title: say("onlyThisFile", source), "aria-label": say("onlyThisFile", source), on: { click: () => onlyIn(source) } },
        icon("file"),
        title ? source : say("searchHere"),
      ),
    number !== null && number !== undefined && element("span", {}, say("page", count(number))),
    meta?.language && element("span.tag", {}, say(meta.language) ?? meta.language),
    others.length > 0 && element("span", {}, say("alsoIn", others.join(", "))),
  ].filter(Boolean);
}

/** Return cards that stand where passages will, while they are looked for. */
export function waitingCards() {
  const line = () => element("span.line");
  return [1, 2, 3].map(() => element("li.card.waiting", { "aria-hidden": "true" }, line(), line(), line()));
}
