// The list of runs: the filter is part of the address; what is typed leaves no trail in the history.
window.dash_clientside.gradscope.go_runs_find = (text) =>
  void gradscope.go({ find: text || null, from: null }, { replace: true });

// A button with `data-copies` copies the text of the component with that id, and says so.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  const source = button && document.getElementById(button.dataset.copies);
  if (!source) return;
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch (error) {
    // a page that is not on this machine has no clipboard: the text is there to be selected
    source.hidden = false;
    getSelection().selectAllChildren(source);
    said = "The browser does not let this page copy. The text is selected: press Ctrl-C.";
  }
  const status = document.querySelector(".copied");
  if (status) status.textContent = said;
});
