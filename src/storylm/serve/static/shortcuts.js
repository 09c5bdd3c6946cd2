// The keyboard: what each key does, which is also what the page tells of it.

import { cardShown, hideCard } from "./card.js";

const at = (id) => document.getElementById(id);

/** [keys, what they do, the action's name, what is given to it]. Those of one letter work outside of fields. */
const KEYS = [
  ["Ctrl+Enter", "Tell the story", "tell"],
  ["Escape", "Hide the card; stop", "escape"],
  ["t", "Tell it again, with the same seed", "tell"],
  ["n", "Another seed", "another"],
  ["v", "The next shading", "view"],
  ["w", "Into the words; then the arrow keys, Home and End", "words"],
  ["p", "To the beginning, to write", "prompt"],
  ["1", "Take the first sentence", "take", 0],
  ["2", "Take the second", "take", 1],
  ["3", "Take the third", "take", 2],
  ["b", "Step back", "stepBack"],
  ["c", "Copy the story", "copy"],
  ["d", "Dark or light", "theme"],
  ["?", "These keys", "help"],
];

/** Listen to the keys; `actions` are the page's own. */
export function listen(actions) {
  const all = { ...own(actions), ...actions };
  at("key-list").replaceChildren(...KEYS.flatMap(([keys, text]) => [told("dt", keys), told("dd", text)]));
  at("help").addEventListener("click", all.help);
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const held = event.ctrlKey || event.metaKey;
    const name = held && event.key === "Enter" ? "Ctrl+Enter" : event.key;
    const row = KEYS.find(([keys]) => keys === name);
    const single = name.length === 1;
    if (!row || (single && (held || event.altKey || event.repeat || !at("single").checked || writing(event.target)))) return;
    event.preventDefault();
    all[row[2]](row[3]);
  });
}

function own({ stop }) {
  return {
    escape: () => (cardShown() ? hideCard() : stop()),
    view: () => {
      const views = [...document.querySelectorAll("input[name=view]")];
      views[(views.findIndex((one) => one.checked) + 1) % views.length].click();
    },
    words: () => document.querySelector(".words")?.focus({ focusVisible: true }),
    prompt: () => at("prompt").focus(),
    copy: () => at("copy").click(),
    theme: () => at("theme").click(),
    help: () => at("keys").showModal(),
  };
}

/** Whether a key pressed here writes something. */
const writing = (target) => target.matches("textarea, select, input:not([type=radio], [type=range], [type=checkbox])");

function told(tag, text) {
  const element = document.createElement(tag);
  element.append(tag === "dt" ? Object.assign(document.createElement("kbd"), { textContent: text }) : text);
  return element;
}
