// The keys of the page, listed in the dialog that "?" opens.
(function () {
  const ours = window.dash_clientside.gradscope;
  const press = (id) => document.getElementById(id)?.click();
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const orders = { 1: "depth", 2: "severity", 3: "onset" };

  ours.open_dialog = (clicks) =>
    clicks && window.dash_clientside.callback_context.triggered[0].prop_id.endsWith("n_clicks") ? true : false;

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.closest("input, textarea, select, [contenteditable], [role=slider], [role=listbox]");
    if (typing) return;
    const key = event.key;
    if (key === "p") press("pause");
    else if (key === "t") press("theme");
    else if (key === "/") press("search-open");
    else if (key === "?") press("help-open");
    else if (key === "[" || key === "]") ours.move_onset(key === "]" ? 1 : -1);
    else if (orders[key] && document.querySelector(".map-graph")) ours.go_order(orders[key]);
    else if (!(arrows[key] && ours.move_cell(...arrows[key]))) return;
    event.preventDefault();
  });

  // Enter in the search follows its first hit.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.id === "search-text") document.querySelector("#search-results a")?.click();
  });
})();
