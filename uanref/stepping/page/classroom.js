// What a class needs around the walk: quiz, game, a size to project, and a link to what is shown.

"use strict";

const classroom = (() => {
  const { byId } = dom;

  // What another page put into this one to begin with: JSON in the element "start". Null where there is nothing.
  function begin() {
    try {
      return JSON.parse(byId("start").textContent);
    } catch {
      return undefined;
    }
  }

  function create(store, { questions, finder, panel, views }) {
    const root = document.documentElement;
    let state = null;
    const changed = () => state?.changed();

    const quizzing = {
      get on() { return questions.on; },
      set(on) {
        if (on === questions.on) return;
        if (on) finder.stop();
        questions.set(on);
        byId("quiz").setAttribute("aria-pressed", String(questions.on));
        document.body.classList.toggle("quiz", questions.on);
        panel.draw();
        changed();
      },
      // On, at the first question, or off.
      toggle() {
        quizzing.set(!questions.on);
        if (!questions.on) return;
        views.show("panel");
        questions.begin();
      },
    };

    const big = {
      get: () => root.classList.contains("big"),
      set(on) {
        root.classList.toggle("big", on);
        byId("present").setAttribute("aria-pressed", String(on));
        store.select(store.current); // back into view
        changed();
      },
      toggle: () => big.set(!big.get()),
    };

    const names = [...document.querySelectorAll("[role=tab]")].map((tab) => tab.getAttribute("aria-controls"));
    const tab = {
      names,
      get: () => (views.shown === names[0] ? null : views.shown),
      show: (name) => views.show(name ?? names[0]),
    };
    finder.subscribe(() => {
      if (finder.seed !== null) quizzing.set(false);
      changed();
    });
    byId("quiz").hidden = !questions.names.length;
    byId("quiz").addEventListener("click", quizzing.toggle);
    byId("present").addEventListener("click", big.toggle);
    views.subscribe(changed);
    state = pageState.create(store, { tab, quiz: quizzing, game: finder, big },
      { button: byId("link"), notice: byId("notice"), begin: begin() });
    return { quiz: quizzing, questions, big, game: finder, state };
  }

  return { create };
})();
