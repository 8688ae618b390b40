// The numbers of the moment as a table, for those who do not see pictures and those who want them exactly.

"use strict";

const numbers = (() => {
  const { el, number } = dom;

  // columns: per run {title, layer, c, frame, run, t}, or null where the run lacks the layer.
  function draw(place, columns, caption) {
    const most = Math.max(0, ...columns.map((one) => one?.frame.components?.length ?? 0));
    const rows = [
      ["loss of the batch", ({ run, t }) => run.loss[t]],
      ["accuracy of the batch", ({ run, t }) => run.accuracy[t]],
      ["batch mean", ({ layer, t, c }) => layer.mean[t][c]],
      ["batch variance", ({ layer, t, c }) => layer.variance[t][c]],
      ["scale γ", ({ layer, t, c }) => layer.gamma[t][c]],
      ["shift β", ({ layer, t, c }) => layer.beta[t][c]],
    ];
    for (let k = 0; k < most; ++k) {
      const of = (name) => ({ frame }) => frame.components?.[k]?.[name];
      rows.push([`component ${k + 1}: prior`, of("prior")], [`component ${k + 1}: mean`, of("mean")], [`component ${k + 1}: variance`, of("variance")]);
      if (columns.some((one) => one?.layer.momentMean))
        rows.push([`component ${k + 1}: mean of its share of the batch`, of("batchMean")], [`component ${k + 1}: variance of its share`, of("batchVariance")]);
    }
    place.replaceChildren(el("table", { class: "moment" }, el("caption", {}, caption),
      el("thead", {}, el("tr", {}, el("th", {}, ""), columns.map((one) => el("th", { scope: "col" }, one?.title ?? "")))),
      el("tbody", {}, rows.map(([name, read]) => el("tr", {}, el("th", { scope: "row" }, name), columns.map((one) => {
        const found = one ? read(one) : null;
        return el("td", { title: found === null || found === undefined ? "" : String(found) }, found === null || found === undefined ? "–" : number(found));
      }))))));
  }

  return { draw };
})();
