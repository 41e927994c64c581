"use strict";
// Fetches the page every ten seconds while the tab is visible, and replaces what has changed.
// Without this script the page reloads itself once a minute.
(() => {
  const EVERY = 10_000;
  const TIMEOUT = 8_000;
  const old = document.getElementById("old");
  const known = new Map();
  let last = new Date();

  const sections = (root) => [...root.querySelectorAll("main > [id]")];

  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const short = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
  const showLocalTimes = (root) => {
    for (const time of root.querySelectorAll("time")) {
      const at = new Date(time.dateTime);
      const today = at.toDateString() === new Date().toDateString();
      time.textContent = (today ? short : local).format(at);
    }
  };

  // What somebody marks to copy must not vanish under the hand.
  const inUse = () => {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed;
  };

  const put = (fresh) => {
    const main = document.querySelector("main");
    const wanted = sections(fresh);
    const names = new Set(wanted.map((section) => section.id));
    for (const gone of sections(document)) {
      if (!names.has(gone.id)) gone.remove();
    }
    let before = null;
    for (const section of wanted) {
      const html = section.outerHTML;
      const here = document.getElementById(section.id);
      if (here === null || known.get(section.id) !== html) {
        const open = here?.querySelector("details")?.open;
        showLocalTimes(section);
        if (here === null) main.insertBefore(section, before === null ? main.firstChild : before.nextSibling);
        else here.replaceWith(section);
        if (open) section.querySelector("details").open = true;
        known.set(section.id, html);
      }
      before = document.getElementById(section.id);
    }
    document.title = fresh.title;
    document.querySelector("link[rel=icon]").href = fresh.querySelector("link[rel=icon]").href;
  };

  const update = async () => {
    if (document.hidden || inUse()) return;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      put(new DOMParser().parseFromString(await answer.text(), "text/html"));
      last = new Date();
      old.hidden = true;
    } catch (error) {
      old.textContent = `No answer from syncd since ${short.format(last)}; the page shows that time. Is the service running?`;
      old.hidden = false;
    }
    document.body.classList.toggle("old", !old.hidden);
  };

  // The clipboard is there only over HTTPS and on loopback; elsewhere the text is selected for Ctrl-C.
  const copy = async (button) => {
    const shown = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      document.getSelection().selectAllChildren(shown);
      button.textContent = "Press Ctrl-C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2_000);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (button !== null) copy(button);
  });
  document.body.classList.add("scripted");

  for (const section of sections(document)) known.set(section.id, section.outerHTML);
  showLocalTimes(document);
  setInterval(update, EVERY);
  document.addEventListener("visibilitychange", update);
})();
