// The two questions that the page itself asks: the token, and whether a file is to go.

import { find } from "./dom.js";
import { say, translate } from "./words.js";
import { Refusal } from "./service.js";

/** Ask for the token. Return it; throw a Refusal when the person gives up. */
export async function askToken(refused) {
  const dialog = find("#token-dialog");
  const field = find("#token-field");
  find("#token-problem").textContent = refused ? say("tokenRefused") : "";
  field.value = "";
  if ((await shown(dialog)) !== "yes") throw new Refusal(say("needsToken"), 401);
  return field.value.trim();
}

/** Return whether a file and its passages are to be deleted. */
export async function confirmDeletion({ file, passages }) {
  find("#delete-lead").textContent = say("deleteLead", file, passages);
  return (await shown(find("#delete-dialog"))) === "yes";
}

function shown(dialog) {
  translate(dialog);
  dialog.returnValue = "no"; // Escape leaves it so
  find("[data-cancel]", dialog).onclick = () => dialog.close("no");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}
