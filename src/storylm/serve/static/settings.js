// The controls, and the page's address, which keeps them: whoever opens it finds the same settings.

const form = document.getElementById("form");
const NUMBERS = ["temperature", "top_p", "min_p", "repetition_penalty", "top_k", "max_tokens", "seed"];
const NAMES = ["prompt", "model", "second", "mode", "view", ...NUMBERS];

export const random = () => crypto.getRandomValues(new Uint32Array(1))[0] >>> 1; // a seed is below 2^31

export const get = (name) => form.elements[name].value;

export function set(name, value) {
  const field = form.elements[name];
  const before = field.value;
  field.value = value;
  if (field instanceof HTMLSelectElement && field.selectedIndex < 0) field.value = before;
  show();
}

/** What a completion is asked with. */
export function sampling() {
  const number = (name) => Number.parseFloat(get(name));
  return {
    seed: number("seed"),
    max_tokens: number("max_tokens"),
    temperature: number("temperature"),
    top_p: number("top_p"),
    min_p: number("min_p"),
    repetition_penalty: number("repetition_penalty"),
    ...(get("top_k") ? { top_k: number("top_k") } : {}),
  };
}

/** Write the settings into the address; `told`: with a story on the page, which is told again where it is opened. */
export function remember(told) {
  const words = new URLSearchParams(NAMES.filter((name) => get(name) !== "").map((name) => [name, get(name)]));
  if (told) words.set("told", "1");
  history.replaceState(null, "", `#${words}`);
}

/** Take the settings from the address; whether a story was on the page. */
export function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const name of NAMES) if (words.has(name)) set(name, words.get(name));
  if (!get("seed")) set("seed", random());
  show();
  return words.has("told");
}

/** The values beside the sliders. */
export function show() {
  for (const output of form.querySelectorAll("output[for]")) {
    const { value, max } = form.elements[output.htmlFor.value];
    const off = { top_p: max, min_p: "0", repetition_penalty: "1" }[output.htmlFor.value];
    output.textContent = value === off ? "off" : value;
  }
}

form.addEventListener("input", show);
