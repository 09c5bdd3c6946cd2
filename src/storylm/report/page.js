// Over an attention map: which token looks at which. The page says the same without it, only less handily.
for (const figure of document.querySelectorAll(".maps figure")) {
  const picture = figure.querySelector("svg"), caption = figure.querySelector("figcaption");
  const tokens = JSON.parse(figure.closest(".maps").dataset.tokens), before = caption.innerHTML;
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect(), count = tokens.length;
    const key = Math.floor((event.clientX - box.left) / box.width * count);
    const query = Math.floor((event.clientY - box.top) / box.height * count);
    if (key >= 0 && key <= query && query < count) {
      caption.textContent = `“${tokens[query]}” looks at “${tokens[key]}”`;
    } else {
      caption.innerHTML = before;
    }
  });
  picture.addEventListener("pointerleave", () => { caption.innerHTML = before; });
}
