// Runs before the page is drawn, so that a chosen theme doesn't flash in.
(() => {
  "use strict";
  let chosen = null;
  try { chosen = localStorage.getItem("guard-theme"); } catch { /* A browser may forbid storage: follow the system. */ }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
