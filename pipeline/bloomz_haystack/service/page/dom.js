// Elements out of plain values. Texts become text nodes: nothing on this page is ever parsed as HTML.

/** Return the first element that matches a selector. */
export const find = (selector, root = document) => root.querySelector(selector);

/**
 * Return a new element.
 * @param {string} tag its name, with classes after dots: "button.quiet".
 * @param {object} attributes by name; `on` holds listeners by event; null, undefined and false are left out.
 * @param {...(Node|string|number|null|false)} children nodes, or texts.
 */
export function element(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  made.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") Object.entries(value).forEach(([event, listener]) => made.addEventListener(event, listener));
    else if (value === true) made.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map(asNode));
  return made;
}

const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

/** Return an icon of the folder icons/, which screen readers skip; style.css gives it its shape and colour. */
export const icon = (name) => element(`span.icon.icon-${name}`, { "aria-hidden": "true" });

/** Bring an element into view and give it the focus, without a fragment in the address. */
export function goTo(target) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  target.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
  target.focus({ preventScroll: true });
}

/** Keep the focus on the page: if a part that is about to go holds it, hand it to another element. */
export function handFocus(part, target) {
  if (part.contains(document.activeElement)) target.focus({ preventScroll: true });
}
