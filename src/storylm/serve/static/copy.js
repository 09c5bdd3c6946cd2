// To the clipboard, also where a page is not trusted with it.

import { announce } from "./notices.js";

/** Copy a text and say so; `what` names it. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`Copied ${what}.`);
  } catch {
    // Plain HTTP from another machine, or a frame: the old way.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    announce(document.execCommand("copy") ? `Copied ${what}.` : `This browser does not let the page copy ${what}.`);
    field.remove();
  }
}
