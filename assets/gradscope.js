// What must happen in the browser: the address, the tab's title, pausing, and noticing that the server is gone.
// When a double-click happened last. Counted here: plotly keeps the browser's own "dblclick" from the page.
let doubleClicked = -Infinity, pressed = -Infinity;
document.addEventListener("mousedown", () => {
  const now = performance.now();
  if (now - pressed < 400) doubleClicked = now;
  pressed = now;
}, true);

window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.gradscope = {
  // Keeps the view in the address, so that a copied link leads back to it. Replaced, not pushed: Back leaves the page.
  address: function (run, metric, step, opened) {
    if (!run) return;
    const query = new URLSearchParams({ run: run });
    if (metric && metric !== "backward-gain") query.set("metric", metric);
    if (step && step.step !== null) query.set("step", step.step);
    if (opened && opened.finding) query.set("finding", opened.finding);
    if (opened && opened.layer) query.set("layer", opened.layer);
    window.history.replaceState(window.history.state, "", window.location.pathname + "?" + query);
  },
  // The colour scheme in force. Watched here: the toggle's own property says "light" for a system that is dark.
  scheme: function () {
    const root = document.documentElement;
    const current = () => (root.getAttribute("data-mantine-color-scheme") === "dark" ? "dark" : "light");
    new MutationObserver(() => window.dash_clientside.set_props("scheme", { data: current() })).observe(root, {
      attributeFilter: ["data-mantine-color-scheme"],
    });
    return current();
  },
  // A click on the map, once it is sure that it was not the first half of the double-click that ends a zoom.
  cell: function (click) {
    if (!click) return window.dash_clientside.no_update;
    return new Promise((answer) =>
      setTimeout(() => answer(performance.now() - doubleClicked < 1000 ? window.dash_clientside.no_update : click), 350),
    );
  },
  title: function (title) {
    if (title) document.title = title;
  },
  pause: function (clicks) {
    const paused = clicks % 2 === 1;
    return [paused, paused ? "Resume" : "Pause"];
  },
};

// Dash is silent when a request fails: the page would look alive and stand still.
(function () {
  const send = window.fetch;
  window.fetch = async function (...request) {
    const ours = String(request[0] && request[0].url ? request[0].url : request[0]).includes("_dash-update-component");
    try {
      const answer = await send.apply(this, request);
      if (ours) document.documentElement.classList.remove("connection-lost");
      return answer;
    } catch (error) {
      if (ours && error.name !== "AbortError") document.documentElement.classList.add("connection-lost");
      throw error;
    }
  };
})();
