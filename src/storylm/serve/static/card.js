// The card of a word: how likely it was, and what else could have come. Who hears the page has it from the word itself.

import { chances } from "./chances.js";
import { boxOf } from "./steps.js";
import { goesOn, LETTERS_BEFORE, nats, percent, shown } from "./words.js";

const card = document.getElementById("card");
const LINGER = 250; // ms to get from the word to the card with the pointer
let hiding = 0;

card.addEventListener("pointerenter", () => clearTimeout(hiding));
card.addEventListener("pointerleave", () => hideCard());

/** Show a word's card beside it, which stands between two texts; `gaze`: where it looks, [[text, share]], if known. */
export function showCard(word, { before = "", after = "", gaze = null } = {}) {
  clearTimeout(hiding);
  card.replaceChildren(title(word, before, after), ...(gaze ? looks(gaze) : likelihood(word, goesOn(word, before))));
  card.hidden = false;
  card.dataset.of = word.element.id;
  place(boxOf(word));
}

/** Hide it; `soon`: unless the pointer comes to it. */
export function hideCard({ soon = false } = {}) {
  clearTimeout(hiding);
  if (soon) hiding = setTimeout(hideCard, LINGER);
  else card.hidden = true;
}

export const cardShown = () => !card.hidden;

function likelihood(word, within) {
  const own = nats(word);
  const { note, rows } = chances(word, within);
  return own === null ? [line("card-note", note)] : [line("card-share", percent(Math.exp(own))), line("card-note", note), bars(rows)];
}

const looks = (gaze) => [line("card-note", "looks at"), bars(gaze)];

/** The token, with the rest of the word that it is a part of. */
function title(word, before, after) {
  const element = line("card-word");
  const head = /^\s/.test(word.text) ? "" : (LETTERS_BEFORE.exec(before)?.[0] ?? "");
  const tail = /\p{L}$/u.test(word.text) ? (/^\p{L}+/u.exec(after)?.[0] ?? "") : "";
  element.append(line("rest", head), line("token", shown(word.text)), line("rest", tail));
  return element;
}

function bars(rows) {
  const list = document.createElement("ul");
  for (const [text, share, drawn] of rows) {
    const row = document.createElement("li");
    if (drawn) row.className = "drawn";
    row.style.setProperty("--share", share.toFixed(4));
    row.append(line("bar-text", text), line("bar-track"), line("bar-share", percent(share)));
    list.append(row);
  }
  return list;
}

function line(name, text = "") {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

/** Below the word, or above where there is no room; style.css lays it at the bottom of a narrow page. */
function place(word) {
  const { width, height } = card.getBoundingClientRect();
  const left = Math.max(8, Math.min(word.left, document.documentElement.clientWidth - width - 8));
  const below = word.bottom + 8;
  const top = below + height < innerHeight ? below : Math.max(8, word.top - height - 8);
  card.style.left = `${left + scrollX}px`;
  card.style.top = `${top + scrollY}px`;
}
