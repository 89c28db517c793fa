// The page: what is asked and chosen in the form, what the service holds, and the language they are shown in.

import { element, find, goTo, handFocus, icon } from "./dom.js";
import { language, percent, say, speak, translate } from "./words.js";
import { askTokenWith, ready, request } from "./service.js";
import { askToken } from "./dialogs.js";
import { Documents } from "./documents.js";
import { Results, message, searchBody } from "./search.js";
import { acceptDrops, upload } from "./uploads.js";

// Questions about the documents that come with the package, by file; shown where the service holds them.
const EXAMPLES = [
  ["sleep.txt", "fr", "Combien d’heures un adulte doit-il dormir ?"],
  ["banque-carte.md", "en", "My bank card was stolen, what should I do?"],
  ["everyday-facts.jsonl", "fr", "Quand a eu lieu le grand incendie de Londres ?"],
  ["questions-courantes.jsonl", "en", "How long is a French passport valid?"],
];

const question = find("#question");
let info = null;

const documents = new Documents(chosen, complain, deleted);
const results = new Results({
  onlyIn: (file) => documents.choose([file]),
  again: (changes) => ask(changes),
  widen: () => {
    find("#passage-language").value = "";
    documents.choose([]);
  },
});

// ---- what the service holds

async function start() {
  message(null);
  find("#add").hidden = true;
  try {
    while (!(await ready())) {
      message("clock", say("starting"));
      await new Promise((resolve) => setTimeout(resolve, 700));
    }
    await refresh();
    const asked = askedInAddress();
    if (asked) ask({}, asked);
    else invite();
  } catch (error) {
    complain(error, start);
  }
}

async function refresh() {
  info = await request("GET", "v1/info");
  documents.writable = info.writable;
  await documents.load();
  showInfo();
}

async function deleted() {
  await refresh();
  chosen([...documents.chosen]); // what is shown may be of a file that is gone
}

function showInfo() {
  if (!info) return;
  find("#held").textContent = say("held", info.files, info.passages);
  find("#add").hidden = !info.writable;
  find("#models").textContent = [
    `${say("searchBy")} ${say(info.hybrid ? "words" : "meaning")}`,
    `${say("retriever")} ${info.model}`,
    `${say("ranker")} ${info.ranker}`,
    `Bloomz ${info.version}`,
    "",
  ].join(" · ");
  showOptions();
  showExamples();
  if (!results.asked) invite();
}

function showOptions() {
  const languages = info.languages.filter((tag) => tag === "fr" || tag === "en"); // those that a search can ask for
  choices("#passage-language", [["", say("anyLanguage")], ...languages.map((tag) => [tag, say(tag)])]);
  find("#language-option").hidden = languages.length < 2;
  const recommended = info.threshold;
  const auto = typeof recommended === "number" && ["auto", say("keepAuto", percent(recommended))];
  choices("#threshold", [["usual", say("keepUsual")], ["all", say("keepAll")], auto, ["least", say("keepAbove")]].filter(Boolean));
  showLeast();
}

function choices(selector, options) {
  const select = find(selector);
  const before = select.value;
  select.replaceChildren(...options.map(([value, words]) => element("option", { value }, words)));
  if (options.some(([value]) => value === before)) select.value = before;
}

function showLeast() {
  find("#least-option").hidden = find("#threshold").value !== "least";
  find("#least-value").textContent = percent(find("#least").valueAsNumber / 100);
}

function showExamples() {
  const held = new Set(documents.files.map(({ file }) => (file ?? "").split("/").pop()));
  const known = EXAMPLES.filter(([file]) => held.has(file));
  const button = ([, lang, words]) => element("button.chip", { type: "button", lang, on: { click: () => ask({}, words) } }, words);
  find("#example-list").replaceChildren(...known.map((example) => element("li", {}, button(example))));
  find("#examples").hidden = known.length === 0 || results.asked !== null;
}

/** Say what to do where nothing was asked. */
function invite() {
  if (results.asked || results.running) return;
  if (info.passages > 0) message(null);
  else if (info.writable) message("upload", say("noDocuments"), say("noDocumentsDetail"), [say("addFiles"), () => find("#file-field").click()]);
  else message("search", say("noDocuments"), say("noDocumentsRead"));
}

function complain(error, again = null) {
  const words = error.message || say("unreachable");
  message("warning", say("failed"), words, again && [say("again"), again], true);
  find("#notice").textContent = words;
}

// ---- what is asked

function ask(changes = {}, words = question.value) {
  question.value = words;
  if (!words.trim() || !find("#ask").reportValidity()) return;
  keepInAddress(words.trim());
  if (!info) return; // `start` asks what stands in the address
  handFocus(find("#examples"), question);
  find("#examples").hidden = true;
  results.show({ ...searchBody(words.trim(), [...documents.chosen]), ...changes }, info.generator);
}

// After "#", so that a question never reaches a log by way of the address.
const askedInAddress = () => new URLSearchParams(location.hash.slice(1)).get("q");

function keepInAddress(words) {
  if (askedInAddress() !== words) history.pushState(null, "", `#${new URLSearchParams({ q: words })}`);
}

function chosen(names) {
  showChosen(names);
  askAnew();
}

/** Ask what was asked last with the options chosen now. */
const askAnew = () => results.asked && ask({}, results.asked.body.query);

function showChosen(names) {
  const button = (name) =>
    element(
      "button.chip.chosen",
      { type: "button", "aria-label": say("remove", name), on: { click: () => documents.choose(names.filter((other) => other !== name)) } },
      name,
      icon("close"),
    );
  const all = element("button.quiet", { type: "button", on: { click: () => documents.choose([]) } }, say("everywhere"));
  handFocus(find("#only-in"), question);
  find("#only-in").hidden = names.length === 0;
  find("#only-in").replaceChildren(element("span.small", {}, say("onlyIn")), ...names.map(button), all);
}

function add(files) {
  upload(files, () => refresh().catch(complain));
}

// ---- language

function showLanguage() {
  translate();
  for (const button of document.querySelectorAll("[data-language]"))
    button.setAttribute("aria-pressed", String(button.dataset.language === language()));
  showInfo();
  documents.render();
  showChosen([...documents.chosen]);
  if (results.asked) results.render();
}

// ---- what a person does

find("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  find("#ask").requestSubmit();
});
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  question.focus();
  question.select();
});
addEventListener("popstate", () => {
  const asked = askedInAddress();
  if (asked) return ask({}, asked);
  question.value = "";
  results.clear();
  showInfo();
});
find("#threshold").addEventListener("change", showLeast);
find("#options").addEventListener("change", askAnew);
find("#least").addEventListener("input", showLeast);
find(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part of the address after "#" is the question's
  goTo(find("#results"));
});
find("#go-documents").addEventListener("click", () => goTo(find("#documents")));
find("#more-files").addEventListener("click", () => documents.more().catch(complain));
find("#file-field").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = "";
});
for (const button of document.querySelectorAll("[data-language]"))
  button.addEventListener("click", () => {
    speak(button.dataset.language);
    showLanguage();
  });
acceptDrops(() => info?.writable === true, add, () => message("warning", say("folders")));

askTokenWith(askToken);
showLanguage();
start();
