// The layers page: its filters and keys change the address, the server draws from it.
(function () {
  const ours = window.dash_clientside.gradscope;
  const query = () => new URLSearchParams(location.search);
  const isHere = () => location.pathname.endsWith("/layers");
  // A filter starts at the first page of the table. Typing leaves no trail in the history.
  const filter = (name, value, replace) => {
    if (isHere() && (value || null) !== query().get(name)) ours.go({ [name]: value || null, after: null }, { replace });
  };
  ours.go_find = (text) => void filter("find", text, true);
  ours.go_kind = (kind) => void filter("kind", kind, false);
  ours.go_unhealthy = (only) => void filter("unhealthy", only ? "1" : null, false);
  // Back and Forward fill in the field, typing is never overwritten.
  ours.found = () =>
    document.activeElement && document.activeElement.id === "layers-find"
      ? window.dash_clientside.no_update
      : query().get("find") || "";

  // Once the layer is closed the list is drawn anew: the focus goes to the row that it was opened from.
  const back = (name, tries) =>
    setTimeout(() => {
      const link = [...document.querySelectorAll(".layer-link")].find((each) =>
        new URLSearchParams(each.search).get("layer") === name);
      if (document.querySelector(".with-detail")) tries && back(name, tries - 1);
      else if (link) link.focus({ preventScroll: true });
    }, 50);

  document.addEventListener("keydown", (event) => {
    if (!isHere() || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const over = [...document.querySelectorAll("[role=dialog], [role=listbox]")].some((each) => each.getClientRects().length);
    if (event.key === "Escape" && !over) {
      const close = document.querySelector("#layers-detail:not([style*='none']) #layers-close");
      if (!close) return;
      back(query().get("layer"), 60);
      close.click();
      event.preventDefault();
    }
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move && document.activeElement && document.activeElement.matches(".layer-link")) {
      const links = [...document.querySelectorAll(".layer-link")].filter((link) => link.offsetParent);
      const next = links[links.indexOf(document.activeElement) + move];
      if (next) next.focus();
      event.preventDefault();
    }
  });
})();
