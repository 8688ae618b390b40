// From a moment into the derivation: the explorer's page in a frame over this one, begun with the moment's eight
// activations and parameters. The page is put together from its own text and the texts that all pages share.

"use strict";

const jump = (() => {
  const START = '<script type="application/json" id="start">null<' + "/script>";
  const PLACE = /\ue000(\d+)\ue000/g;

  // The explorer's inputs at moment t of channel c, as nested lists.
  function inputs(layer, t, c) {
    const of = (name) => layer[name][t].map((row) => [row[c]]);
    const found = { x: layer.samples[t].map((row) => [row[c]]), gamma: [layer.scale[t][c]], beta: [layer.beta[t][c]], eps: layer.eps };
    if (!layer.priorLogits) return found;
    const logits = of("priorLogits");
    const shared = layer.derivation === "uan-shared";
    return { ...found, prior_logits: shared ? logits.flat() : logits, mean: of("componentMean"), raw_variance: of("rawVariance") };
  }

  // The whole text of a page that begins with `start`.
  function text(pages, name, start) {
    const json = JSON.stringify(start).replaceAll("<", "\\u003c");
    return pages.pages[name]
      .replace(START, () => START.replace("null", () => json))
      .replace(PLACE, (_, i) => pages.texts[Number(i)]);
  }

  // The pages as data: base64 of deflated JSON, for they would fill the page.
  async function unpacked(packed) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    return JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text());
  }

  function create(packed, dialog) {
    let pages = null;
    const frame = dialog.querySelector("iframe");
    const told = dialog.querySelector("p");
    const close = () => dialog.close();
    const busy = "input, select, textarea, dialog"; // there Escape means something else
    dialog.querySelector("button").addEventListener("click", close);
    // It is told of with the next picture on the screen: by then the dialog may have been opened again.
    dialog.addEventListener("close", () => dialog.open || frame.removeAttribute("srcdoc"));
    // The page in the frame is as light or dark as this one.
    frame.addEventListener("load", () => {
      const shown = frame.contentDocument;
      if (!shown || !frame.srcdoc) return;
      const { theme } = document.documentElement.dataset;
      if (theme) shown.documentElement.dataset.theme = theme;
      // What is pressed in a frame does not reach the dialog around it.
      shown.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && !event.defaultPrevented && !event.target.closest?.(busy) && !shown.querySelector("dialog[open]")) close();
      });
      frame.focus();
    });

    // where: what the frame shows, in words.
    async function open(layer, t, c, where) {
      pages ??= await unpacked(packed);
      const how = layer.mode === "learned" ? "normalized by the mixture's own moments."
        : "normalized by themselves, so the moments are theirs and not the whole batch's.";
      told.textContent = `${where}: its ${layer.samples[t].length} activations, ${how}` +
        (picture.learnt(layer.kind) === "trained" ? "" : " EM moves this layer's mixture: there the way back ends at its parameters.");
      frame.title = where;
      frame.srcdoc = text(pages, layer.page, { inputs: inputs(layer, t, c), node: null, phase: "forward" });
      dialog.showModal();
    }

    return { open };
  }

  return { create, inputs, text };
})();
