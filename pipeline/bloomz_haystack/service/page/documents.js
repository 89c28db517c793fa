// The files that the service holds: a list to search in or to delete from. Knows nothing of questions.

import { element, find, icon } from "./dom.js";
import { say } from "./words.js";
import { request } from "./service.js";
import { confirmDeletion } from "./dialogs.js";

const PAGE = 50; // files fetched at a time

/** The list of files and those of them that are chosen to be searched in alone. */
export class Documents {
  /**
   * @param {(chosen: string[]) => void} onChoice is called when other files are chosen.
   * @param {(error: Error) => void} onProblem is called when a request fails.
   * @param {() => Promise<void>} onChange is called when files were deleted; it loads the list anew.
   */
  constructor(onChoice, onProblem, onChange) {
    this.files = [];
    this.total = 0;
    this.chosen = new Set();
    this.writable = false;
    this.report = { onChoice, onProblem, onChange };
  }

  /** Fetch the list anew, as far as it was shown. */
  async load() {
    const wanted = Math.max(this.files.length, PAGE);
    const files = [];
    do {
      const part = await request("GET", `v1/documents?offset=${files.length}&limit=${PAGE}`);
      files.push(...part.files);
      this.total = part.total;
      if (part.files.length === 0) break;
    } while (files.length < Math.min(wanted, this.total));
    this.files = files;
    this.render();
  }

  /** Choose the files to be searched in alone; none means all. */
  choose(names) {
    this.chosen = new Set(names);
    this.render();
    this.report.onChoice([...this.chosen]);
  }

  /** Write the list in the language spoken now; the focus stays on the same control of the same file. */
  render() {
    const list = find("#file-list");
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.control : null;
    list.replaceChildren(...this.files.map((file) => this.#row(file)));
    if (focused) find(`[data-control="${CSS.escape(focused)}"]`, list)?.focus();
    find("#file-help").hidden = this.files.length < 2;
    const left = this.total - this.files.length;
    const more = find("#more-files");
    more.hidden = left <= 0;
    more.textContent = say("more", left);
  }

  /** Fetch and show the next files; the focus goes to the first of them. */
  async more() {
    const shown = this.files.length;
    const part = await request("GET", `v1/documents?offset=${shown}&limit=${PAGE}`);
    this.files.push(...part.files);
    this.total = part.total;
    this.render();
    find("#file-list").children[shown]?.querySelector("input")?.focus();
  }

  #row(file) {
    const detail = element("span.file-detail", {}, say("filesCount", file.passages));
    // What came as texts, without a file: counted, but neither searched in alone nor deleted here.
    if (!file.file) return element("li.no-file", {}, element("span.file-name", {}, say("noFile")), detail);
    const checked = this.chosen.has(file.file);
    const tick = element("input", { type: "checkbox", checked, "data-control": `tick ${file.file}` });
    tick.addEventListener("change", () => {
      const others = [...this.chosen].filter((name) => name !== file.file);
      this.chosen = new Set(tick.checked ? [...others, file.file] : others);
      this.report.onChoice([...this.chosen]);
    });
    const name = element("span.file-name", {}, file.file);
    const label = element("label", { title: file.title ?? file.file }, tick, element("span.file-text", {}, name, detail));
    return element("li", {}, label, this.writable && this.#deleteButton(file));
  }

  #deleteButton(file) {
    const label = say("delete", file.file);
    const remove = () => this.#delete(file).catch(this.report.onProblem);
    return element(
      "button.icon-button",
      { type: "button", title: label, "aria-label": label, "data-control": label, on: { click: remove } },
      icon("trash"),
    );
  }

  async #delete(file) {
    if (!(await confirmDeletion(file))) return;
    const place = this.files.indexOf(file);
    await request("DELETE", "v1/documents", { files: [file.file] });
    find("#notice").textContent = say("deleted", file.file);
    this.chosen.delete(file.file);
    await this.report.onChange();
    const rows = find("#file-list").children;
    (rows[Math.min(place, rows.length - 1)]?.querySelector("button") ?? find("#file-field")).focus();
  }
}
