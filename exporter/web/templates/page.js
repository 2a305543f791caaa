"use strict";
(() => {
  const root = document.documentElement;
  const main = document.getElementById("main");
  const notice = document.getElementById("notice");
  const button = document.getElementById("pause");
  const clock = new Intl.DateTimeFormat(undefined, {timeStyle: "medium"});
  const calendar = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "medium"});
  let paused = false;
  let busy = false;
  let timer;

  // Show times in the local time zone; times of today without the date.
  function localize(tree) {
    const today = new Date().toDateString();
    for (const element of tree.querySelectorAll("time")) {
      const time = new Date(element.dateTime);
      element.title = element.textContent;
      element.textContent = (time.toDateString() === today ? clock : calendar).format(time);
    }
  }

  // Update a tree to match another. Unchanged nodes stay, and with them focus, scroll position and selection.
  function update(old, fresh) {
    if (old.localName === "details" && fresh.dataset.problem && !old.dataset.problem) {
      old.open = true;
    }
    for (const {name} of [...old.attributes]) {
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const {name, value} of fresh.attributes) {
      if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    removeLineBreaks(old);
    removeLineBreaks(fresh);
    const keys = new Set(Array.from(fresh.children, (child) => child.dataset.key));
    const byKey = new Map();
    for (const child of [...old.children]) {
      const key = child.dataset.key;
      if (key === undefined) continue;
      if (keys.has(key)) byKey.set(key, child);
      else child.remove();
    }
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      const key = next.dataset?.key;
      const candidate = key === undefined ? at : byKey.get(key);
      byKey.delete(key);
      while (candidate && at !== candidate && at && at.dataset?.key === undefined) at = removeNode(at);
      if (candidate && candidate.nodeName === next.nodeName && candidate.dataset?.key === key) {
        if (candidate === at) at = at.nextSibling;
        else old.insertBefore(candidate, at);
        if (next.nodeType === Node.ELEMENT_NODE) update(candidate, next);
        else if (candidate.data !== next.data) candidate.data = next.data;
      } else {
        old.insertBefore(document.importNode(next, true), at);
      }
    }
    while (at) at = removeNode(at);
  }

  // Remove a node and return the next one.
  function removeNode(node) {
    const following = node.nextSibling;
    node.remove();
    return following;
  }

  // Remove line breaks between elements, which would not match.
  function removeLineBreaks(element) {
    for (const child of [...element.childNodes]) {
      if (child.nodeType === Node.TEXT_NODE && /^\s*\n\s*$/.test(child.data)) child.remove();
    }
  }

  // Screen readers read every change aloud.
  function showNotice(text) {
    if (notice.textContent !== text) notice.textContent = text;
  }

  async function refresh() {
    const response = await fetch(location.origin + location.pathname, {
      cache: "no-store",
      signal: AbortSignal.timeout(10000),
    });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!fresh.getElementById("main")) throw new Error("unexpected page");
    if (fresh.documentElement.dataset.version !== root.dataset.version) {
      location.reload();
      return;
    }
    localize(fresh);
    document.title = fresh.title;
    update(main, fresh.getElementById("main"));
    showNotice("");
  }

  async function tick() {
    clearTimeout(timer);
    if (busy || paused || document.hidden) return;
    busy = true;
    try {
      await refresh();
    } catch (error) {
      const reason = error instanceof TypeError || error.name === "TimeoutError" ? "the exporter cannot be reached" : error.message;
      showNotice(`This page is not up to date. Refreshing failed: ${reason}.`);
    }
    busy = false;
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    timer = setTimeout(tick, Number(root.dataset.refresh) * 1000);
  }

  // Open the account that the address links to.
  function openTarget() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.localName === "details") target.open = true;
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume" : "Pause";
    tick();
  });
  document.addEventListener("visibilitychange", tick);
  addEventListener("hashchange", openTarget);
  document.getElementById("zone").textContent =
    `Time zone: ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`;
  localize(document);
  openTarget();
  schedule();
})();
