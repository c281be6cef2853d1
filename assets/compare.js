// The comparison: two runs and how their steps are aligned are parts of the address.
(function () {
  window.dash_clientside = window.dash_clientside || {}; // this file comes before gradscope.js
  const go = (changes) => {
    if (location.pathname === "/compare") window.dash_clientside.gradscope.go(changes);
  };
  window.dash_clientside.compare = {
    go_a: (a) => void (a && go({ a })),
    go_b: (b) => void (b && go({ b })),
    go_by: (by) => void (by && go({ by: by === "step" ? null : by })),
  };
})();
