// Where a sentence ends.

// A point, or its like, with the quotes and brackets that close after it; then comes a new line, or a space and what
// begins a sentence. So `"Meow!" said Tim.` is one.
const END = /(?<!\b(?:Mr|Mrs|Ms|Dr|St))[.!?…]["”’')\]]*(?=\s*\n|\s+["“‘'(]*[\p{Lu}\p{N}])/u;
const LAST = /[.!?…]["”’')\]]*\s*$/u;

/** The length of the first sentence of a text, or -1 where it is not over; `whole`: nothing more comes. */
export function sentenceLength(text, whole = false) {
  const found = END.exec(text);
  if (found) return found.index + found[0].length;
  return whole && LAST.test(text) ? text.trimEnd().length : -1;
}
