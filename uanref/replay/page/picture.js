// The drawing of one run's channel at a moment: activations and densities, posterior, x -> y.

"use strict";

const picture = (() => {
  const { el, svg, number } = dom;
  const HEIGHTS = { full: [196, 60, 130], short: [138, 44, 84] };
  const MODES = {
    sample: "Each image is normalized by itself here, so y is no function of this channel's x alone.",
    joint: "One posterior serves all channels here, so y is no function of this channel's x alone.",
    gate: "A gate weighs the whole image here, so y is no function of this channel's x alone.",
    public: "The authors' released layer mixes the channels, so y is no function of this channel's x alone.",
    own: "This norm is code of its own: its activations are shown, not what it computes.",
    learned: "One prior for all channels with learned statistics has no derivation here.",
    batch: "There is no derivation of this layer.",
  };

  function create(place, short) {
    const drawing = svg("svg", { class: "plot", role: "img" });
    place.append(drawing);
    const [first, second, third] = HEIGHTS[short ? "short" : "full"];

    // film: moment.film; frame: one of its frames; layer: whose channel it is.
    function draw(film, frame, layer, told) {
      const width = Math.max(260, place.clientWidth || 400);
      const on = plot.axis({ domain: film.domain, width, left: 30, many: width < 420 ? 7 : 10 });
      const round = Number((film.density[1] / 1.1).toPrecision(1));
      const densities = on.panel(20, first, film.density, "Activations and densities", [0, round]);
      const all = [...densities.parts, ...on.bars(seen(frame.bars, film.domain), densities.up), ...on.rug(frame.samples, densities.up)];
      let below = 20 + first + 36;
      const posteriors = on.panel(below, second, [0, 1], "Posterior of each component", [0, 1], { xLabels: false });
      all.push(...posteriors.parts);
      if (frame.components)
        frame.components.forEach((_, k) => {
          all.push(on.curve(`curve ${plot.color(k)}`, frame.grid, frame.density[k], densities.up));
          all.push(on.curve(`curve posterior ${plot.color(k)}`, frame.grid, frame.posterior[k], posteriors.up));
        });
      else all.push(note(on, below + second / 2, "no mixture, no posterior"));
      all.push(on.curve("single", frame.grid, frame.single.density, densities.up));
      if (frame.total) all.push(on.curve("total", frame.grid, frame.total, densities.up));
      below += second + 24;
      if (film.output) {
        const [low, high] = film.output;
        const transform = on.panel(below, third, film.output, "The transform x → y", [low, ...(low < 0 && high > 0 ? [0] : []), high]);
        all.push(...transform.parts);
        if (frame.sampleY) {
          all.push(on.curve("single of-y", frame.grid, frame.single.y, transform.up));
          if (frame.y) all.push(on.curve("total transform", frame.grid, frame.y, transform.up));
          all.push(...on.dots(frame.samples, frame.sampleY, transform.up));
        } else all.push(note(on, below + third / 2, "not a function of x alone"));
        below += third + 20;
      } else below -= 20;
      plot.fill(drawing, width, below, `${told}. ${described(frame, layer)}`, all);
    }

    return { draw };
  }

  const seen = (bars, [low, high]) => bars.filter((bar) => bar.x + bar.wide > low && bar.x < high).map((bar) => {
    const x = Math.max(bar.x, low);
    return { x, wide: Math.min(bar.x + bar.wide, high) - x, high: bar.high };
  });

  const note = (on, y, text) => svg("text", { x: (on.left + on.width) / 2, y, "text-anchor": "middle" }, text);

  function described(frame, layer) {
    const parts = (frame.components ?? []).map((one, k) =>
      `component ${k + 1}: mean ${number(one.mean)}, variance ${number(one.variance)}, prior ${number(one.prior)}`);
    return [`Histogram of the batch's activations`, ...parts,
      `batch normalization's Gaussian: mean ${number(layer.mean)}, variance ${number(layer.variance)}`].join("; ");
  }

  // What the mixtures of some layers do not do, a sentence each.
  const HONEST = {
    trained: "The mixture is not fitted to the histogram: like every weight, it is trained for the loss, and may lie beside its activations.",
    fitted: "The mixture of MixtureNorm is fitted to the batch by EM and gets no gradient of the loss.",
  };
  const honest = (layers) => [...new Set(layers.filter((layer) => layer?.priorLogits)
    .map((layer) => (layer.kind === "MixtureNorm" ? HONEST.fitted : HONEST.trained)))];

  const why = (layer) => (layer.derivation ? "" : MODES[layer.mode]);

  const KEY = [["area", "activations of the batch"], ["rug", "eight of them"], ["total", "mixture"], ["curve k1", "its components, by colour"],
    ["single", "batch normalization: its one Gaussian, its x → y"]];
  const legend = () => el("div", { class: "legend" }, plot.legend(KEY));

  return { create, legend, why, honest };
})();
