// The moments of all runs on one line of time, the one shown, and playing them.

"use strict";

const times = (() => {
  const PAUSE = 260; // milliseconds from a moment to the next

  // Listeners get "moment" or "playing". `still`: whether the reader asked for little motion; then play is one step.
  function create(runs, still) {
    const steps = [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
    const listeners = [];
    let at = 0;
    let timer = null;
    const tell = (what) => listeners.forEach((listener) => listener(what));

    function show(moment) {
      at = Math.min(Math.max(moment, 0), steps.length - 1);
      tell("moment");
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      tell("playing");
    }

    function go(moment) {
      if (timer !== null) stop();
      show(moment);
    }

    function play() {
      if (timer !== null) return stop();
      if (still()) return show(at === steps.length - 1 ? 0 : at + 1);
      if (at === steps.length - 1) show(0);
      timer = setInterval(() => {
        show(at + 1);
        if (at === steps.length - 1) stop();
      }, PAUSE);
      return tell("playing");
    }

    // Which of a run's moments is the latest at or before the one shown; the last one after it stopped.
    const momentOf = (run) => run.steps.findLastIndex((step) => step <= steps[at]);
    const nearest = (step) => steps.reduce((best, one, i) => (Math.abs(one - step) < Math.abs(steps[best] - step) ? i : best), 0);

    return {
      steps, go, play, nearest,
      momentOf: (run) => Math.max(momentOf(run), 0),
      over: (run) => steps[at] > run.steps[run.steps.length - 1],
      subscribe: (listener) => listeners.push(listener),
      get at() { return at; },
      get step() { return steps[at]; },
      get playing() { return timer !== null; },
    };
  }

  return { create };
})();
