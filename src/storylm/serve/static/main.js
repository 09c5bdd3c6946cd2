// The page: what its buttons do.

import { models } from "./api.js";
import { hideCard } from "./card.js";
import { Choosing } from "./choosing.js";
import { copy } from "./copy.js";
import { showOffers } from "./offers.js";
import { announce, report } from "./notices.js";
import * as settings from "./settings.js";
import { listen } from "./shortcuts.js";
import { Story } from "./story.js";
import { speak, tellInto } from "./telling.js";
import { busy, run, stop } from "./work.js";

const at = (id) => document.getElementById(id);
let served = []; // the models
let stories = []; // on the page
let choosing = null; // where sentences are chosen
let made = ""; // the settings that what is on the page was made with

const offered = () => showOffers(choosing, busy());

/** Nothing is on its way any more. */
function rest() {
  offered();
  keep();
}

/** Put it into the address; what was chosen, as long as the settings are those that it was chosen with. */
function keep(path = choosing?.path ?? "") {
  if (served.length) settings.remember(stories.length > 0, made === settings.madeWith() ? path : "");
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

/** Tell the story; where it is chosen, from the beginning or along a path. */
function tell(path = "") {
  if (!served.length) return load();
  if (!at("form").reportValidity()) return;
  const [mode, prompt, sampling] = [settings.get("mode"), settings.get("prompt"), settings.sampling()];
  lay(mode);
  hideCard();
  made = settings.madeWith();
  keep(path);
  announce("Telling.");
  choosing = mode === "choose" ? new Choosing(stories[0], prompt, sampling) : null;
  if (choosing) return run((signal) => choosing.follow(path, signal, offered), () => tell(path), rest);
  offered();
  return run(async (signal) => {
    const all = await Promise.allSettled(stories.map((story) => tellInto(story, prompt, sampling, signal)));
    speak(stories);
    look();
    const failed = all.find((one) => one.status === "rejected" && one.reason.name !== "AbortError");
    if (failed) throw failed.reason;
  }, tell, rest);
}

/** Three sentences to choose from. */
function offer() {
  return run((signal) => choosing.offer(signal, offered), offer, rest);
}

function others() {
  choosing.leave();
  offer();
}

function take(index) {
  if (busy() || !choosing?.offers[index]?.done) return;
  choosing.take(choosing.offers[index]);
  speak(stories);
  keep();
  if (choosing.over) offered();
  else offer();
}

function stepBack() {
  if (!choosing?.canStepBack) return;
  stop();
  choosing.stepBack();
  rest();
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
  arrive(settings.MODELS); // what else it says was read before, and may have been written over since
}

/** What the address says. */
function arrive(names) {
  const { told, path, missing } = settings.recall(names);
  if (!served.length) return;
  about();
  look();
  if (missing.length) report(new Error(`${lacks(missing)} Choose another, which will tell another story.`), load);
  else if (told) tell(path);
}

const quoted = (ids) => ids.map((id) => `“${id}”`).join(", ");
const lacks = (ids) => `This server has no ${quoted(ids)}, which the link asks for; it has ${quoted(served.map(({ id }) => id))}.`;

function about() {
  const model = served.find(({ id }) => id === settings.get("model"));
  if (!model) return;
  at("model-about").textContent = `${model.parameters.toLocaleString("en")} parameters, context ${model.context.toLocaleString("en")}`;
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (busy()) stop();
  else tell();
});
at("form").addEventListener("change", (event) => {
  if (event.target.name === "view") look();
  about();
  keep();
});
at("form").addEventListener("invalid", () => { at("settings").open = true; }, true); // what is folded cannot be corrected
at("another").addEventListener("click", another);
at("others").addEventListener("click", others);
at("back").addEventListener("click", stepBack);
at("offer-list").addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (item) take([...at("offer-list").children].indexOf(item));
});
at("copy").addEventListener("click", () => copy(stories.map((story) => story.text).join("\n\n"), "the story"));
at("link").addEventListener("click", () => copy(location.href, "the link"));
addEventListener("hashchange", () => arrive());
listen({ tell, another, stop, stepBack, take });

at("settings").open = matchMedia("(min-width: 60rem)").matches;
arrive();
load();
