// The page works without this script. It refreshes the page, and shows when the data is stale.
"use strict";
(() => {
  const PERIOD = 5000;
  const fresh = document.getElementById("fresh");
  let last = Date.now();
  let failed = false;

  const parts = (root) => [...root.querySelectorAll("[data-refresh]")];
  const showAge = () => {
    const seconds = Math.round((Date.now() - last) / 1000);
    fresh.textContent = failed
      ? `No answer from the agent. The data is ${seconds} s old.`
      : `As of ${new Date(last).toISOString().slice(11, 19)} UTC, refreshes every 5 s.`;
    fresh.className = failed ? "mark bad" : "dim";
  };

  const refresh = async () => {
    const selects = String(getSelection()) !== "";
    if (document.hidden || selects || document.querySelector("main :is(a, summary):focus")) return;
    try {
      const answer = await fetch(location.href, {
        headers: { Accept: "text/html" },
        signal: AbortSignal.timeout(PERIOD),
      });
      // Scripts in a parsed document never run.
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      const [olds, news] = [parts(document), parts(next)];
      if (olds.length === news.length) {
        olds.forEach((old, at) => old.replaceWith(document.adoptNode(news[at])));
      } else {
        document.getElementById("main").replaceWith(document.adoptNode(next.getElementById("main")));
      }
      last = Date.now();
      failed = false;
    } catch {
      failed = true;
    }
    showAge();
  };

  // The key / moves the focus to the search field.
  document.addEventListener("keydown", (event) => {
    const field = document.querySelector("input[type=search]");
    if (event.key === "/" && field && !event.target.closest("input, select")) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  });
  if (document.querySelector("[data-refresh]")) {
    document.documentElement.classList.add("refreshes");
    setInterval(refresh, PERIOD);
    showAge();
  }
})();
