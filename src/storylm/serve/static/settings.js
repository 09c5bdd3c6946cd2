// The controls, and the page's address, which keeps them: whoever opens it finds the same settings.

const form = document.getElementById("form");
const NUMBERS = ["temperature", "top_p", "min_p", "repetition_penalty", "top_k", "max_tokens", "seed"];
const MADE_WITH = ["prompt", "model", "second", "mode", ...NUMBERS]; // what makes the story
const NAMES = [...MADE_WITH, "view"];
/** Those that cannot be set before the server has said which there are. */
export const MODELS = ["model", "second"];

export const random = () => crypto.getRandomValues(new Uint32Array(1))[0] >>> 1; // a seed is below 2^31

export const get = (name) => form.elements[name].value;

export function set(name, value) {
  form.elements[name].value = value;
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

/** What a story is made with, to be compared. */
export const madeWith = () => JSON.stringify(MADE_WITH.map(get));

/**
 * Write the settings into the address; `told`: with a story on the page, which is told again where it is opened,
 * with the `path` of what was chosen in it.
 */
export function remember(told, path) {
  const words = new URLSearchParams(NAMES.map((name) => [name, get(name)]));
  if (told) words.set("told", "1");
  if (path) words.set("path", path);
  history.replaceState(null, "", `#${words}`);
}

/**
 * Take these settings from the address; those that it leaves out are as on a new page. What else it says: {told, path,
 * missing}, where `missing` are models that this server does not have.
 */
export function recall(names = NAMES) {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const name of names) {
    form.elements[name].value = usual(name);
    if (isKnown(name, words.get(name))) form.elements[name].value = words.get(name);
  }
  if (!get("seed")) set("seed", random());
  show();
  const missing = MODELS.map((name) => words.get(name)).filter((id, index) => !isKnown(MODELS[index], id) && id);
  return { told: words.has("told"), path: words.get("path") ?? "", missing };
}

/** Whether a value is given, and one that the field can have. */
function isKnown(name, value) {
  const { options } = form.elements[name];
  return value !== null && (!options || [...options].some((option) => option.value === value));
}

function usual(name) {
  const field = form.elements[name];
  if (field instanceof RadioNodeList) return [...field].find((one) => one.defaultChecked).value;
  return field.options ? (field.options[0]?.value ?? "") : field.defaultValue;
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
