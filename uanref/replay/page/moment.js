// What is drawn of one channel at one moment: recorded numbers, and curves that the derivation's expressions give for
// them. The moments by which a layer standardizes are the recorded ones of the whole batch, whatever the grid.

"use strict";

const moment = (() => {
  const GRID = 160;
  const LEAST = 0.001; // of the activations may lie beyond each end of the x axis
  const SPREAD = 0.5; // by how much of its width the components may widen it
  const FAR = 20; // a moment that reaches so many times as far as most do not is not what the x axis is made for

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

  // The x axis of a channel, for all moments of all `views` ({layer, c}): where all but a few activations lie. A moment
  // that lies far from most, such as the last one before a run diverged, does not count.
  function domain(views) {
    const reached = usual(views.flatMap(({ layer, c }) => layer.counts.map((_, t) => {
      const [first, last] = inner(layer, t, c);
      const samples = layer.samples[t].map((row) => row[c]);
      return { low: Math.min(first, ...samples), high: Math.max(last, ...samples), means: ofComponents(layer, "componentMean", t, c) ?? [] };
    })));
    const low = Math.min(...reached.map((one) => one.low));
    const high = Math.max(...reached.map((one) => one.high));
    const means = reached.flatMap((one) => one.means);
    const wide = high - low;
    const least = Math.min(low, Math.max(Math.min(...means, low), low - SPREAD * wide));
    const most = Math.max(high, Math.min(Math.max(...means, high), high + SPREAD * wide));
    const room = 0.03 * (most - least) || 0.5 * Math.max(1, Math.abs(least));
    return [least - room, most + room];
  }

  function usual(reached) {
    const low = quantile(reached.map((one) => one.low), 0.25);
    const high = quantile(reached.map((one) => one.high), 0.75);
    const found = reached.filter((one) => one.low >= low - FAR * (high - low) && one.high <= high + FAR * (high - low));
    return found.length && high > low ? found : reached;
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
    for (const one of all) one.beyond = beyond(one, across);
    const tall = all.filter((one) => one.bars.length && !one.beyond).map((one) => Math.max(...one.bars.map((bar) => bar.high)));
    const curves = Math.max(0, ...finite(all.flatMap((one) => [...(one.total ?? []), ...one.single.density])));
    const tallest = tall.length ? quantile(tall, 0.75) : curves;
    const transforms = all.filter((one) => one.sampleY);
    const ys = finite(transforms.flatMap((one) => [...(one.y ?? []), ...one.single.y, ...one.sampleY]));
    return {
      domain: across, grid, frames,
      density: [0, 1.05 * Math.max(tallest, Math.min(curves, 2 * tallest)) || 1],
      output: transforms.length ? outputs(ys) : null,
    };
  }

  function outputs(ys) {
    const low = ys.reduce((least, y) => Math.min(least, y), 0);
    const high = ys.reduce((most, y) => Math.max(most, y), 0);
    return low < high ? [Math.max(-9, Math.floor(low)), Math.min(9, Math.ceil(high))] : [-1, 1];
  }

  // From where to where the histogram goes if more than half of it lies beyond the x axis; null if it does not.
  function beyond({ bars: found }, [low, high]) {
    if (!found.length) return null;
    const share = found.reduce((sum, bar) => sum + (bar.x + bar.wide > low && bar.x < high ? bar.wide * bar.high : 0), 0);
    const last = found[found.length - 1];
    const wide = last.x + last.wide - found[0].x;
    return share < 0.5 || wide > FAR * (high - low) ? [found[0].x, last.x + last.wide] : null;
  }

  const finite = (xs) => xs.filter(Number.isFinite);
  const quantile = (xs, share) => [...xs].sort((a, b) => a - b)[Math.floor(share * (xs.length - 1))];

  return { film };
})();
