// The timeline: the steps shown and the steps looked at are fields, and Shift with a drag.
(function () {
  const ours = window.dash_clientside.gradscope;
  const isStep = (value) => value !== null && value !== undefined && value !== "";

  // Two fields of one range; while only one of them is filled, nothing is asked for yet.
  function range(first, last, then) {
    if (isStep(first) !== isStep(last)) return;
    if (!isStep(first)) then(null, null);
    else then(Math.min(first, last), Math.max(first, last));
  }
  ours.go_window = (first, last) => range(first, last, (from, to) => ours.go({ from, to }));
  ours.go_brush = (first, last) => range(first, last, (from, to) => ours.go({ brush: from === null ? null : `${from}-${to}` }));

  // Shift and drag: plotly would pan, so it does not get to hear of it.
  document.addEventListener(
    "pointerdown",
    (event) => {
      const graph = event.target.closest && event.target.closest(".timeline-graph");
      const plot = graph && event.shiftKey && event.button === 0 && graph.querySelector(".js-plotly-plot");
      const axis = plot && plot._fullLayout && plot._fullLayout.xaxis;
      if (axis) drag(event, plot, axis);
    },
    true,
  );
  // Plotly listens to this one.
  document.addEventListener(
    "mousedown",
    (event) => {
      if (event.shiftKey && event.target.closest && event.target.closest(".timeline-graph")) event.stopImmediatePropagation();
    },
    true,
  );

  function drag(event, plot, axis) {
    event.preventDefault();
    const box = plot.getBoundingClientRect();
    const left = box.left + axis._offset;
    const at = (x) => Math.min(Math.max(x - left, 0), axis._length);
    const start = at(event.clientX);
    const band = document.createElement("div");
    band.className = "timeline-band";
    plot.appendChild(band);
    const size = (x) => {
      band.style.left = axis._offset + Math.min(start, at(x)) + "px";
      band.style.width = Math.abs(at(x) - start) + "px";
    };
    size(event.clientX);
    const move = (moved) => size(moved.clientX);
    const end = (last) => {
      document.removeEventListener("pointermove", move, true);
      document.removeEventListener("pointerup", end, true);
      document.removeEventListener("pointercancel", end, true);
      band.remove();
      if (last.type === "pointercancel" || Math.abs(at(last.clientX) - start) < 3) return;
      const steps = [start, at(last.clientX)].map((x) => axis.p2d(x)).sort((one, other) => one - other);
      const first = Math.max(0, Math.ceil(steps[0]));
      ours.go({ brush: `${first}-${Math.max(first, Math.floor(steps[1]))}` });
    };
    document.addEventListener("pointermove", move, true);
    document.addEventListener("pointerup", end, true);
    document.addEventListener("pointercancel", end, true);
  }
})();
