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

  // What the two axes show after a drag or a double-click: steps, and rows by number. Back undoes it.
  ours.go_zoom = function (change) {
    if (!change) return;
    const shown = {};
    const edges = (axis) => [0, 1].map((end) => change[`${axis}.range[${end}]`]).sort((one, other) => one - other);
    if (change["xaxis.range[0]"] !== undefined) {
      const [low, high] = edges("xaxis");
      shown.from = Math.max(0, Math.ceil(low));
      shown.to = Math.max(shown.from, Math.floor(high));
    } else if (change["xaxis.autorange"]) shown.from = shown.to = null;
    if (change["yaxis2.range[0]"] !== undefined) {
      const [low, high] = edges("yaxis2").map(Math.round);
      shown.rows = `${Math.max(0, low)}-${Math.max(0, low, high)}`;
    } else if (change["yaxis2.autorange"]) shown.rows = null;
    ours.go(shown);
  };

  // The part of the model that the map shows; "." is all of it.
  ours.go_block = function (block) {
    const shown = block === "." ? null : block;
    if (block && shown !== new URLSearchParams(location.search).get("block")) ours.go({ block: shown, rows: null });
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
    let row = map.y.findIndex((name) => layerOf(name) === query.get("layer"));
    const frame = (plot._fullLayout.shapes || []).find((shape) => shape.name === "cell");
    if (row < 0 && frame) row = Math.round((frame.y0 + frame.y1) / 2); // it shares a row, and is not the first there
    const middles = Array.from(map.x);
    const half = middles.length > 1 ? (middles[1] - middles[0]) / 2 : 0.5;
    let column = middles.findLastIndex((middle) => middle - half <= Number(query.get("step") ?? middles.at(-1)));
    column = Math.min(Math.max(column + right, 0), middles.length - 1);
    const next = Math.min(Math.max(row + down, 0), map.y.length - 1);
    ours.go({ layer: layerOf(map.y[next]), step: Math.floor(middles[column]) }, { replace: true });
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
    if (next === undefined) return;
    const change = { step: next };
    const [first, last] = ["from", "to"].map((name) => Number(query.get(name)));
    if (query.has("from") && (next < first || next > last)) { // the zoom comes along
      change.from = Math.max(0, next - Math.floor((last - first) / 2));
      change.to = change.from + last - first;
    }
    ours.go(change);
  };
})();
