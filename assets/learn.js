// Opens and closes the cards of terms and of "how to read"; leads to an anchor of the glossary once it is there.
(function () {
  let openCard = null; // and the button that opened it
  let opener = null;

  function open(button) {
    const card = button.nextElementSibling;
    if (!card || !card.showPopover) return;
    if (!card.hasAttribute("popover")) {
      card.setAttribute("popover", "auto"); // in front of everything; a click elsewhere closes it
      card.addEventListener("toggle", (event) => event.newState === "closed" && closed(card, button));
      card.addEventListener("keydown", (event) => event.key === "Tab" && leave(event, card, button));
    }
    card.showPopover();
    place(card, button.getBoundingClientRect());
    button.setAttribute("aria-expanded", "true");
    [openCard, opener] = [card, button];
  }

  function closed(card, button) {
    button.setAttribute("aria-expanded", "false");
    if (openCard === card) openCard = opener = null;
  }

  // Below the button, above it where there is no room, always inside of the window.
  function place(card, at) {
    const { width, height } = card.getBoundingClientRect();
    const below = at.bottom + 6 + height <= innerHeight || at.top < innerHeight / 2;
    const top = below ? at.bottom + 6 : at.top - 6 - height;
    card.style.left = Math.max(8, Math.min(at.left, innerWidth - width - 8)) + "px";
    card.style.top = Math.max(8, Math.min(top, innerHeight - height - 8)) + "px";
  }

  // The tab key goes on behind the button, not behind a card that is elsewhere in the window.
  function leave(event, card, button) {
    const links = card.querySelectorAll("a");
    if (event.target === links[event.shiftKey ? 0 : links.length - 1]) {
      card.hidePopover();
      button.focus();
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-opens='card']");
    if (button && !button.closest(".expert")) button.getAttribute("aria-expanded") === "true" ? hide() : open(button);
    else if (openCard && event.target.closest("a[href]")) hide();
  });

  function hide() {
    if (!openCard) return;
    const button = opener;
    openCard.hidePopover();
    return button;
  }

  // First of all listeners: Escape closes the card alone, not the drawer around it too.
  window.addEventListener(
    "keydown",
    (event) => {
      if (event.key !== "Escape" || !openCard) return;
      event.stopImmediatePropagation();
      event.preventDefault();
      hide().focus();
    },
    true,
  );
  // The card stays with its word, as long as that is on the screen.
  function follow(event) {
    if (!openCard || (event.target !== window && openCard.contains(event.target))) return;
    const at = opener.getBoundingClientRect();
    at.bottom < 0 || at.top > innerHeight ? hide() : place(openCard, at);
  }
  window.addEventListener("scroll", follow, true);
  window.addEventListener("resize", follow);

  // Dash draws the page after the browser has looked for the anchor.
  function arrive(tries) {
    const place = location.pathname === "/learn" && location.hash && document.getElementById(location.hash.slice(1));
    if (place) {
      for (const old of document.querySelectorAll(".asked")) old.classList.remove("asked");
      place.closest(".glossary-entry")?.classList.add("asked");
      place.scrollIntoView();
    } else if (tries && location.hash) setTimeout(() => arrive(tries - 1), 100);
  }
  window.addEventListener("load", () => arrive(40));
  window.addEventListener("_dashprivate_pushstate", () => arrive(40));
  window.addEventListener("hashchange", () => arrive(40));

  // With --expert the words are plain: nothing to tab to.
  const plain = () => document.querySelectorAll(".expert .term:not([disabled])").forEach((term) => (term.disabled = true));
  new MutationObserver(plain).observe(document.documentElement, { childList: true, subtree: true });
})();
