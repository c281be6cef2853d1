// Copying: a button that holds a text puts it on the clipboard, says so on itself, and to those who do not see it.
(function () {
  const said = document.createElement("div");
  said.className = "visually-hidden";
  said.setAttribute("role", "status");
  said.id = "copied";
  document.addEventListener("DOMContentLoaded", () => document.body.append(said));
  if (document.body) document.body.append(said);

  // The address of a finding by itself: from the drawer too, so that the link opens what is read.
  function here() {
    return location.href.split("#")[0];
  }

  async function put(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch (error) {
      // Without https, as behind --host, browsers have no clipboard of the new kind.
      const field = document.createElement("textarea");
      field.value = text;
      field.className = "visually-hidden";
      button.after(field); // inside of the drawer, which holds the focus
      field.select();
      const copied = document.execCommand("copy");
      field.remove();
      button.focus();
      return copied;
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-copy-link]");
    if (!button || button.dataset.copied) return;
    const text = button.dataset.copyLink ? here() : button.dataset.copy;
    const label = button.textContent;
    const done = await put(text, button);
    const words = done ? "Copied" : "Not copied: select it by hand";
    button.dataset.copied = "1";
    button.textContent = words;
    said.textContent = words;
    setTimeout(() => {
      button.textContent = label;
      said.textContent = "";
      delete button.dataset.copied;
    }, 1600);
  });

  // A button that makes way for others: the focus goes to the one that took its place, not to the top of the page.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#finding-actions button[id], .measure-panel button[id]");
    const place = button && button.closest("#finding-actions, .measure-panel");
    if (!place) return;
    let looks = 100;
    const hand = () => {
      if (button.isConnected) return void (looks-- && setTimeout(hand, 50));
      if (!place.isConnected || (document.activeElement && document.activeElement !== document.body)) return;
      place.querySelector(".measuring button, .muted-said button, summary")?.focus();
    };
    hand();
  });
})();
