// A word as an element of the page.

import { nats, percent, shown } from "./words.js";

const END = "❧";
const FULL_SURPRISE = 6; // nats, 1 in 400: what is less likely is shaded no deeper

/** An option of the list that a story is. */
export function elementOf(word, id) {
  const element = document.createElement("span");
  element.id = id;
  element.setAttribute("role", "option");
  element.className = word.given ? "word given" : "word";
  // Only what can be seen is shaded: not the space before it.
  const ink = document.createElement("span");
  ink.className = "ink";
  ink.textContent = word.text ? word.text.trimStart() : END;
  element.append(word.text.slice(0, word.text.length - word.text.trimStart().length), ink);
  if (!/[^\s\p{C}]/u.test(word.text)) element.setAttribute("aria-label", shown(word.text));
  if (!word.text) element.classList.add("end");
  const own = nats(word);
  if (own !== null) {
    element.dataset.nats = own;
    element.style.setProperty("--surprise", Math.min(1, -own / FULL_SURPRISE).toFixed(3));
  }
  return element;
}

/** What is heard of it where it is the chosen one. */
export function label(word) {
  const own = nats(word);
  return `${shown(word.text).trim()}${own === null ? "" : `, ${percent(Math.exp(own))} likely`}`;
}
