// What must happen in the browser: the address, the tab's title and icon, the pace, pausing, and noticing that the
// server is gone. The address is the only state of the view: controls and links change it, the server draws from it.
window.dash_clientside = window.dash_clientside || {};
const gradscope = (window.dash_clientside.gradscope = window.dash_clientside.gradscope || {});
const keep = () => window.dash_clientside.no_update;
const put = (id, properties) => window.dash_clientside.set_props(id, properties);

// ---- the address

// Shows an address of this server, as a link would, without loading the page anew.
function visit(href, replace) {
  const before = location.pathname;
  if (href === location.pathname + location.search + location.hash) return;
  history[replace ? "replaceState" : "pushState"]({}, "", href);
  window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
  if (location.pathname !== before) window.scrollTo(0, 0);
  if (location.pathname !== before || location.hash) arrive(location.hash.slice(1), 40);
}

// Once the new page is there: to the anchor that was asked for, else the focus goes to its main part.
function arrive(anchor, tries) {
  const main = document.getElementById(anchor || "main");
  if (main && anchor) main.scrollIntoView();
  if (main) main.focus({ preventScroll: true });
  if (!main && tries) setTimeout(() => arrive(anchor, tries - 1), 50);
}

// Changes parts of the address' query; null takes one out.
gradscope.go = function (changes, { replace = false, path = location.pathname } = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") query.delete(name);
    else query.set(name, value);
  }
  const search = query.toString();
  visit(path.replace(/^\/+/, "/") + (search && "?" + search), replace);
};

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (event.altKey || link.target || link.hasAttribute("download") || link.classList.contains("download")) return;
  event.preventDefault();
  visit(link.pathname + link.search + link.hash);
});

// A control that holds one part of the address; Back undoes the choice.
gradscope.visit = visit;
// A map with other rows shows all of them.
const chosen = (name, usual) => (value) => {
  const asked = value === usual ? null : value;
  if (value && asked !== new URLSearchParams(location.search).get(name)) gradscope.go({ [name]: asked, rows: null });
};
gradscope.go_metric = chosen("metric", "backward-gain");
gradscope.go_order = chosen("order", "depth");
// What changes many times a second leaves no trail in the history.
gradscope.go_to = (changes) => void (changes && gradscope.go(changes, { replace: true }));

gradscope.go_run = function (run) {
  const here = location.pathname.split("/");
  if (!run || (here[1] === "run" && decodeURIComponent(here[2]) === run)) return;
  if (here[1] !== "run") return; // the select follows the page, a page without a run follows nothing
  const page = here[3] && here[3] !== "finding" ? "/" + here[3] : "";
  const kept = new URLSearchParams(location.search);
  for (const name of ["finding", "step", "from", "to", "rows", "brush"]) kept.delete(name);
  const search = kept.toString();
  visit("/run/" + encodeURIComponent(run) + page + (search && "?" + search));
};

// ---- the tab, the theme, the pace

const COLOURS = { error: "#C8102E", warning: "#C77700", note: "#2F62E8", ok: "#0F7F68" };
gradscope.state = function (state) {
  if (!state) return;
  document.title = state.title;
  const icon = document.querySelector("link[rel=icon]");
  const colour = COLOURS[state.tone];
  if (!icon) return;
  icon.href = colour
    ? `data:image/svg+xml,${encodeURIComponent(
        `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="${colour}"/>` +
          `<text x="16" y="23" font-size="20" font-family="sans-serif" text-anchor="middle" fill="#fff">${state.shape}</text></svg>`,
      )}`
    : "/assets/favicon.svg";
};

// The colour scheme in force. Watched here: the toggle's own property says "light" for a system that is dark.
gradscope.scheme = function () {
  const root = document.documentElement;
  const current = () => (root.getAttribute("data-mantine-color-scheme") === "dark" ? "dark" : "light");
  new MutationObserver(() => put("scheme", { data: current() })).observe(root, {
    attributeFilter: ["data-mantine-color-scheme"],
  });
  return current();
};

// Asks at most once a second, no more often than a fifth of the time goes into drawing, and seldom when nobody looks.
let drawing = 0;
const pace = () => put("clock", { interval: Math.max(document.hidden ? 5000 : 1000, 5000 * drawing) });
gradscope.pace = function (shown) {
  if (shown && shown.seconds !== undefined && (drawing = shown.seconds) > 0.2) pace();
};
document.addEventListener("visibilitychange", pace);

gradscope.pause = function (clicks) {
  const paused = clicks % 2 === 1;
  return [paused, paused ? "Resume" : "Pause", paused ? "true" : "false"];
};

// ---- a lost server: Dash is silent when a request fails, the page would look alive and stand still

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
