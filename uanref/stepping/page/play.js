// The walk along the road by itself: a stop every while, until the road ends or the reader takes over.

"use strict";

const play = (() => {
  const STOP = 1200; // milliseconds

  // button: tells whether it walks. Returns {toggle(), stop(), on}.
  function create(store, button) {
    let timer = null;
    let moving = false;

    function tell() {
      button.setAttribute("aria-pressed", String(timer !== null));
      button.firstChild.textContent = timer === null ? "▶" : "❚❚";
      const word = button.querySelector(".word");
      if (word) word.textContent = timer === null ? " Play" : " Pause";
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      tell();
    }

    function on() {
      if (store.at === store.road.length - 1) return stop();
      moving = true;
      store.move(1);
      moving = false;
      if (store.at === store.road.length - 1) stop();
    }

    function toggle() {
      if (timer !== null) return stop();
      if (store.at === store.road.length - 1) store.go(0);
      timer = setInterval(on, STOP);
      tell();
    }

    // Whoever goes elsewhere, or changes a number, wants to look.
    store.subscribe((what) => what !== "proofs" && !moving && timer !== null && stop());
    return { toggle, stop, get on() { return timer !== null; } };
  }

  return { create };
})();
