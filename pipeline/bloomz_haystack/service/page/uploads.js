// Files that a person adds -> the service's index, with the progress of each.

import { say } from "./words.js";
import { element, find, handFocus, icon } from "./dom.js";
import { request } from "./service.js";

const PAUSE = 400; // milliseconds between two looks at a job
const TOO_LARGE = 413;

/** Send files to be indexed and show how far they are; `onDone` is called when passages may have come. */
export async function upload(files, onDone) {
  const view = new Progress();
  try {
    await sendAndFollow(files, view);
  } finally {
    view.end();
    onDone();
  }
}

async function sendAndFollow(files, view) {
  const form = new FormData();
  for (const file of files) form.append("files", file);
  const all = (state, problem = null) => files.map(({ name }) => ({ name, state, problem }));
  view.show(files, all("sending"));
  try {
    let { job } = await request("POST", "v1/documents", form);
    view.show(files, job.files); // the service may give them other names
    while (job.state === "queued" || job.state === "running") {
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
      job = await request("GET", `v1/jobs/${encodeURIComponent(job.id)}`);
      view.show(files, job.files);
    }
  } catch (error) {
    if (error.status !== TOO_LARGE || files.length === 1) return view.show(files, all("failed", error.message || say("unreachable")));
    view.show(files, []);
    const half = Math.ceil(files.length / 2);
    await sendAndFollow(files.slice(0, half), view);
    await sendAndFollow(files.slice(half), view);
  }
}

/** Rows of an upload: one a file, until the person dismisses them. */
class Progress {
  constructor() {
    this.batches = new Map(); // files sent together -> what the service says of them
    this.list = element("ul.progress-list");
    this.bar = element("progress", { "aria-label": say("addFiles") });
    this.head = element("div.progress-head", {}, this.bar);
    this.box = element("section.card.progress", {}, this.head, this.list);
    find("#uploads").prepend(this.box);
  }

  /** Show the state of files that were sent together. */
  show(batch, states) {
    this.batches.set(batch, states);
    const all = this.#states();
    const ready = all.filter(({ state }) => state === "done" || state === "failed").length;
    this.bar.max = Math.max(all.length, 1);
    if (ready > 0) this.bar.value = ready;
    this.list.replaceChildren(...all.map(row));
  }

  /** Say what became of the files. */
  end() {
    const states = this.#states();
    const failed = states.filter(({ state }) => state !== "done").length;
    const words = [states.length > failed && say("indexed", states.length - failed), failed > 0 && say("notIndexed", failed)];
    const summary = words.filter(Boolean).join(", ");
    const dismiss = () => {
      handFocus(this.box, find("#file-field"));
      this.box.remove();
    };
    const close = element("button.quiet", { type: "button", on: { click: dismiss } }, say("dismiss"));
    this.head.replaceChildren(element("strong", {}, summary), close);
    find("#notice").textContent = summary;
  }

  #states() {
    return [...this.batches.values()].flat();
  }
}

function row({ name, state, passages, problem }) {
  const before = { sending: say("sending"), queued: say("queued"), running: say("running") };
  const words = state === "done" ? [say("done", passages ?? 0), problem] : [problem ?? before[state] ?? say("failedFile")];
  const mark = { done: "check", failed: "warning" }[state] ?? "clock";
  return element(
    "li",
    { class: `progress-${state}` },
    icon(mark),
    element("span.file-text", {}, element("span.file-name", {}, name), element("span.file-detail", {}, words.filter(Boolean).join(" · "))),
  );
}

/** Let files be dropped anywhere on the page while `open()` says so. */
export function acceptDrops(open, onFiles, onFolders) {
  const veil = find("#drop-veil");
  let depth = 0;
  const withFiles = (event) => event.dataTransfer?.types.includes("Files");
  const shade = (change) => {
    depth = Math.max(0, depth + change);
    veil.hidden = depth === 0 || !open();
  };
  addEventListener("dragenter", (event) => withFiles(event) && shade(1));
  addEventListener("dragleave", (event) => withFiles(event) && shade(-1));
  addEventListener("dragover", (event) => withFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!withFiles(event)) return;
    event.preventDefault(); // else the browser would leave the page for the file
    shade(-depth);
    if (!open()) return;
    const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const folders = items.filter((item) => item.webkitGetAsEntry?.()?.isDirectory);
    const files = items.filter((item) => !folders.includes(item)).map((item) => item.getAsFile());
    if (folders.length > 0) onFolders();
    if (files.length > 0) onFiles(files);
  });
}
