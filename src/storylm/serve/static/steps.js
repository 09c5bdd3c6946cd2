// The arrow keys in a story: from a word to the next, and to the one above or below.

const KEYS = { ArrowRight: 1, ArrowLeft: -1 };

/** The word's index that a key leads to from `from`; null where it leads nowhere. */
export function step(words, from, key) {
  if (!words.length) return null;
  const last = words.length - 1;
  if (key === "Home") return 0;
  if (key === "End") return last;
  if (key in KEYS) return from === null ? 0 : Math.max(0, Math.min(last, from + KEYS[key]));
  if (key === "ArrowDown" || key === "ArrowUp") return from === null ? 0 : line(words, from, key === "ArrowDown");
  return null;
}

/** The word nearest to straight below (or above), on the next line that has any. */
function line(words, from, down) {
  const here = boxOf(words[from]);
  const rest = down ? words.slice(from + 1) : words.slice(0, from).reverse();
  const far = (other) => (down ? other.top >= here.bottom - here.height / 2 : other.bottom <= here.top + here.height / 2);
  const first = rest.map(boxOf).find(far);
  if (!first) return from;
  const across = (word) => Math.abs(boxOf(word).left - here.left);
  const same = rest.filter((word) => Math.abs(boxOf(word).top - first.top) < first.height / 2);
  return same.reduce((best, word) => (across(word) < across(best) ? word : best)).index;
}

/** Where a word is; the first of its lines, if it is broken. */
export function boxOf({ element }) {
  const ink = element.querySelector(".ink");
  return ink.getClientRects()[0] ?? element.getClientRects()[0] ?? element.getBoundingClientRect();
}
