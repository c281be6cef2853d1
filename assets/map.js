// The map of layers and steps: clicks, zooms and arrow keys change the address.
(function () {
  const ours = window.dash_clientside.gradscope;

  // When a double-click happened last. Counted here: plotly keeps the browser's own "dblclick" from the page.
  let doubleClicked = -Infinity;
  let pressed = -Infinity;
  document.addEventListener(
    "mousedown",
    () => {
      const now = performance.now();
      if (now - pressed < 400) doubleClicked = now;
      pressed = now;
    },
    true,
  );

  // The map's names are escaped for plotly, and "first … last" where neighbours share a row.
  const layerOf = (row) =>
    row.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&").split(" … ")[0];

  // A click on the map, once it is sure that it was not the first half of the double-click that ends a zoom.
  ours.go_cell = function (click) {
    if (!click) return;
    const point = click.points[0];
    setTimeout(() => {
      if (performance.now() - doubleClicked < 1000) return;
      if (point.customdata && String(point.customdata).startsWith("/")) ours.visit(String(point.customdata));
      else if (typeof point.y === "string") ours.go({ layer: layerOf(point.y), step: Math.round(point.x), finding: null });
      else ours.go({ step: Math.round(point.x) });
    }, 350);
  };

  // What the step axis shows after a drag or a double-click.
  ours.go_zoom = function (change) {
    if (!change) return;
    if (change["xaxis.range[0]"] !== undefined) {
      const first = Math.max(0, Math.ceil(change["xaxis.range[0]"]));
      ours.go({ from: first, to: Math.max(first, Math.floor(change["xaxis.range[1]"])) }, { replace: true });
    } else if (change["xaxis.autorange"]) ours.go({ from: null, to: null }, { replace: true });
  };

  ours.is_drawer_open = (search) => ["finding", "layer"].some((name) => new URLSearchParams(search).has(name));

  // A drawer that was closed by hand takes itself out of the address.
  ours.close_drawer = function (opened) {
    const query = new URLSearchParams(location.search);
    if (opened === false && location.pathname.split("/").length === 3) {
      if (query.has("finding") || query.has("layer")) ours.go({ finding: null, layer: null });
    }
  };

  const drawn = () => document.querySelector(".map-graph .js-plotly-plot");

  // The neighbour of the cell that is open; `right` in columns, `down` in rows.
  ours.move_cell = function (right, down) {
    const query = new URLSearchParams(location.search);
    const plot = drawn();
    const map = plot && plot._fullData.find((trace) => trace.name === "map");
    if (!map || !query.has("layer")) return false;
    const row = map.y.findIndex((name) => layerOf(name) === query.get("layer"));
    const steps = Array.from(map.x);
    let column = steps.findLastIndex((step) => step <= Number(query.get("step") ?? steps.at(-1)));
    column = Math.min(Math.max(column + right, 0), steps.length - 1);
    const next = Math.min(Math.max(row + down, 0), map.y.length - 1);
    ours.go({ layer: layerOf(map.y[next]), step: steps[column] }, { replace: true });
    return true;
  };

  // To the previous or next step at which a finding begins.
  ours.move_onset = function (direction) {
    const marks = document.querySelector("[data-onsets]");
    if (!marks || !marks.dataset.onsets) return;
    const onsets = marks.dataset.onsets.split(" ").map(Number);
    const query = new URLSearchParams(location.search);
    const here = query.has("step") ? Number(query.get("step")) : direction < 0 ? Infinity : -1;
    const next = direction > 0 ? onsets.find((step) => step > here) : onsets.findLast((step) => step < here);
    if (next !== undefined) ours.go({ step: next });
  };
})();
