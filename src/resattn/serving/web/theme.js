"use strict";
// Light, dark, or as the system says. Loaded before the page is drawn, so that it does not flash in the wrong colours.

(() => {
  const NAMES = { auto: "Auto", light: "Light", dark: "Dark" };
  const NEXT = { auto: "dark", dark: "light", light: "auto" };
  const SAID = { ...NAMES, auto: "Auto, as the system" }; // what is seen is also what is said

  function stored() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is off
    }
  }

  let theme = stored() in NAMES ? stored() : "auto";

  function apply() {
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (!button) return;
    button.setAttribute("aria-label", `Colours: ${SAID[theme]}`);
    document.getElementById("theme-name").textContent = NAMES[theme];
  }

  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      theme = NEXT[theme];
      try {
        localStorage.setItem("theme", theme);
      } catch {
        // it lasts as long as the page
      }
      apply();
    });
  });
})();
