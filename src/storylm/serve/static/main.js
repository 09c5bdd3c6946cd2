// The page: what its buttons do, and what is on its way.

import { models } from "./api.js";
import { hideCard } from "./card.js";
import { Choosing } from "./choosing.js";
import { copy } from "./copy.js";
import { showOffers } from "./offers.js";
import { announce, clearNotice, report } from "./notices.js";
import * as settings from "./settings.js";
import { listen } from "./shortcuts.js";
import { Story } from "./story.js";
import { speak, tellInto } from "./telling.js";

const at = (id) => document.getElementById(id);
let served = []; // the models
let stories = []; // on the page
let choosing = null; // where sentences are chosen
let running = null; // aborts what is on its way

/** Do what takes a while: until it is over the button says stop. `retry` is what "Try again" does. */
async function run(work, retry) {
  running?.abort();
  const own = (running = new AbortController());
  clearNotice();
  at("tell").textContent = "Stop";
  at("tell").classList.add("stops");
  at("stories").setAttribute("aria-busy", "true");
  try {
    await work(own.signal);
  } catch (error) {
    report(error, retry);
  }
  if (running !== own) return;
  running = null;
  at("tell").textContent = "Tell the story";
  at("tell").classList.remove("stops");
  at("stories").removeAttribute("aria-busy");
}

/** The stories on the page: of the model, and of the one beside it where a story is told whole. */
function lay(mode) {
  const ids = [settings.get("model"), ...(mode === "tell" && settings.get("second") ? [settings.get("second")] : [])];
  if (stories.map((story) => story.model.id).join("\n") !== ids.join("\n")) {
    stories = ids.map((id, index) => new Story(served.find((model) => model.id === id), `story-${index + 1}`));
    at("stories").replaceChildren(...stories.map((story) => story.element));
  }
  at("stories").classList.toggle("two", stories.length > 1);
  at("waiting").hidden = true;
  at("tools").hidden = false;
  look();
}

function tell() {
  if (!served.length) return load();
  if (!at("form").reportValidity()) return;
  const [mode, prompt, sampling] = [settings.get("mode"), settings.get("prompt"), settings.sampling()];
  lay(mode);
  hideCard();
  settings.remember(true);
  announce("Telling.");
  choosing = mode === "choose" ? new Choosing(stories[0], prompt, sampling) : null;
  showOffers(choosing);
  if (choosing) return run(async (signal) => {
    await choosing.begin(signal);
    await choosing.offer(signal, () => showOffers(choosing));
  }, tell);
  return run(async (signal) => {
    const all = await Promise.allSettled(stories.map((story) => tellInto(story, prompt, sampling, signal)));
    speak(stories);
    look();
    const failed = all.find((one) => one.status === "rejected" && one.reason.name !== "AbortError");
    if (failed) throw failed.reason;
  }, tell);
}

/** Three sentences to choose from. */
function offer() {
  return run((signal) => choosing.offer(signal, () => showOffers(choosing)), offer);
}

function take(index) {
  if (running || !choosing?.offers[index]) return;
  choosing.take(index);
  speak(stories);
  showOffers(choosing);
  if (!choosing.over) offer();
}

function stepBack() {
  if (!choosing?.canStepBack) return;
  running?.abort();
  choosing.stepBack();
  showOffers(choosing);
}

function another() {
  settings.set("seed", settings.random());
  tell();
}

function look() {
  const view = settings.get("view");
  at("stories").dataset.view = view;
  at("legend").hidden = view !== "likelihood";
  for (const story of stories) story.attending = view === "attention";
}

async function load() {
  try {
    served = await models();
  } catch (error) {
    report(error, load);
    return;
  }
  const options = () => served.map(({ id }) => new Option(id, id));
  at("model").replaceChildren(...options());
  at("second").replaceChildren(new Option("none", ""), ...options());
  arrive();
}

/** What the address says. */
function arrive() {
  const told = settings.recall();
  about();
  if (told) tell();
}

function about() {
  const model = served.find(({ id }) => id === settings.get("model"));
  if (!model) return;
  at("model-about").textContent = `${model.parameters.toLocaleString("en")} parameters, context ${model.context.toLocaleString("en")}`;
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else tell();
});
at("form").addEventListener("change", (event) => {
  if (event.target.name === "view") look();
  about();
  settings.remember(stories.length > 0);
});
at("form").addEventListener("invalid", () => { at("settings").open = true; }, true); // what is folded cannot be corrected
at("another").addEventListener("click", another);
at("others").addEventListener("click", offer);
at("back").addEventListener("click", stepBack);
at("offer-list").addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (item) take([...at("offer-list").children].indexOf(item));
});
at("copy").addEventListener("click", () => copy(stories.map((story) => story.text).join("\n\n"), "the story"));
at("link").addEventListener("click", () => copy(location.href, "the link"));
addEventListener("hashchange", arrive);
listen({ tell, another, stop: () => running?.abort(), stepBack, take });

at("settings").open = matchMedia("(min-width: 60rem)").matches;
settings.recall();
load();
