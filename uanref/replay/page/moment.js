// What is drawn of one channel at one moment: recorded numbers, and curves that the derivation's expressions give for
// them. The moments by which a layer standardizes are the recorded ones of the whole batch, whatever the grid.

"use strict";

const moment = (() => {
  const GRID = 160;
  const LEAST = 0.001; // of the activations may lie beyond each end of the x axis
  const SPREAD = 0.5; // by how much of its width the components may widen it

  const ofComponents = (layer, name, t, c) => layer[name] && layer[name][t].map((row) => row[c]);

  // The curves of layer `layer` of a run at moment t in channel c, on a grid.
  function frame(data, layer, t, c, grid) {
    const samples = layer.samples[t].map((row) => row[c]);
    const affine = (gamma) => ({
      gamma: channel.perChannel(gamma), beta: channel.perChannel(layer.beta[t][c]), eps: primitives.scalar(layer.eps),
    });
    const batch = { mu: channel.perChannel(layer.mean[t][c]), var: channel.perChannel(layer.variance[t][c]) };
    const alone = (xs) => channel.single(data.single, xs, affine(layer.gamma[t][c]), batch);
    const found = { t, grid, samples, bars: bars(layer, t, c), single: alone(grid), components: null, y: null, sampleY: null };
    if (layer.priorLogits) Object.assign(found, mixed(data, layer, t, c, grid, samples, affine(layer.scale[t][c])));
    else if (layer.derivation) found.sampleY = alone(samples).y;
    return found;
  }

  function mixed(data, layer, t, c, grid, samples, affine) {
    const exported = data.derivations[layer.derivation];
    const of = (name) => ofComponents(layer, name, t, c);
    const given = {
      ...affine,
      prior_logits: channel.perComponent(of("priorLogits")),
      mean: channel.perComponent(of("componentMean")),
      raw_variance: channel.perComponent(of("rawVariance")),
    };
    const fixed = layer.momentMean
      ? { moment: channel.perComponent(of("momentMean")), moment_variance: channel.perComponent(of("momentVariance")) }
      : {};
    const made = exported ? channel.mixture(exported, exported.view, grid, given, fixed) : null;
    if (!made) return {};
    return {
      ...made,
      components: Array.from(made.prior, (prior, k) => ({
        prior, mean: of("componentMean")[k], variance: made.variance[k],
        batchMean: layer.momentMean && of("momentMean")[k], batchVariance: layer.momentMean && of("momentVariance")[k],
      })),
      sampleY: channel.mixture(exported, exported.view, samples, given, fixed).y,
    };
  }

  function bars(layer, t, c) {
    const counts = layer.counts[t][c];
    const [low, high] = [layer.low[t][c], layer.high[t][c]];
    const wide = (high - low) / counts.length;
    const all = counts.reduce((sum, count) => sum + count, 0);
    if (!(wide > 0) || !all) return []; // one number for all activations has no density
    return counts.map((count, i) => ({ x: low + i * wide, wide, high: count / all / wide }));
  }

  // The x axis of a channel, for all moments of all `views` ({layer, c}): where all but a few activations lie.
  function domain(views) {
    let [low, high] = [Infinity, -Infinity];
    const means = [];
    for (const { layer, c } of views)
      for (let t = 0; t < layer.counts.length; ++t) {
        const [first, last] = inner(layer, t, c);
        low = Math.min(low, first, ...layer.samples[t].map((row) => row[c]));
        high = Math.max(high, last, ...layer.samples[t].map((row) => row[c]));
        means.push(...(ofComponents(layer, "componentMean", t, c) ?? []));
      }
    const wide = high - low;
    const least = Math.min(low, Math.max(Math.min(...means, low), low - SPREAD * wide));
    const most = Math.max(high, Math.min(Math.max(...means, high), high + SPREAD * wide));
    const room = 0.03 * (most - least) || 0.5 * Math.max(1, Math.abs(least));
    return [least - room, most + room];
  }

  function inner(layer, t, c) {
    const counts = layer.counts[t][c];
    const wide = (layer.high[t][c] - layer.low[t][c]) / counts.length;
    const all = counts.reduce((sum, count) => sum + count, 0);
    const first = (list) => {
      let sum = 0;
      return list.findIndex((count) => (sum += count) > LEAST * all);
    };
    return [layer.low[t][c] + Math.max(first(counts), 0) * wide, layer.high[t][c] - Math.max(first([...counts].reverse()), 0) * wide];
  }

  // All frames of some views of a channel, and the axes that hold for all of them.
  function film(data, views) {
    const across = domain(views);
    const grid = plot.grid(across, GRID);
    const frames = views.map(({ layer, c }) => layer.counts.map((_, t) => frame(data, layer, t, c, grid)));
    const all = frames.flat();
    const tallest = quantile(all.map((one) => Math.max(...one.bars.map((bar) => bar.high), 1e-9)), 0.75);
    const curves = Math.max(...all.flatMap((one) => [...(one.total ?? []), ...one.single.density]));
    const ys = all.flatMap((one) => [...(one.y ?? []), ...(one.sampleY ? one.single.y : []), ...(one.sampleY ?? [])]);
    return {
      domain: across, grid, frames,
      density: [0, 1.05 * Math.max(tallest, Math.min(curves, 2 * tallest))],
      output: ys.length ? [Math.max(-9, Math.floor(Math.min(...ys))), Math.min(9, Math.ceil(Math.max(...ys)))] : null,
    };
  }

  const quantile = (xs, share) => [...xs].sort((a, b) => a - b)[Math.floor(share * (xs.length - 1))];

  return { film };
})();
