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

  // Show times in the reader's zone; today's without the date.
  function localise(tree) {
    const today = new Date().toDateString();
    for (const element of tree.querySelectorAll("time")) {
      const time = new Date(element.dateTime);
      element.title = element.textContent;
      element.textContent = (time.toDateString() === today ? clock : calendar).format(time);
    }
  }

  // Make one tree like another, touching only what differs, so that focus, scroll and selection stay.
  function assimilate(old, fresh) {
    if (old.localName === "details" && fresh.dataset.troubled && !old.dataset.troubled) {
      old.open = true;
    }
    for (const {name} of [...old.attributes]) {
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const {name, value} of fresh.attributes) {
      if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    compact(old);
    compact(fresh);
    const wanted = new Set(Array.from(fresh.children, (child) => child.dataset.key));
    const keyed = new Map();
    for (const child of [...old.children]) {
      const key = child.dataset.key;
      if (key === undefined) continue;
      if (wanted.has(key)) keyed.set(key, child);
      else child.remove();
    }
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      const key = next.dataset?.key;
      const candidate = key === undefined ? at : keyed.get(key);
      keyed.delete(key);
      while (candidate && at !== candidate && at && at.dataset?.key === undefined) at = without(at);
      if (candidate && candidate.nodeName === next.nodeName && candidate.dataset?.key === key) {
        if (candidate === at) at = at.nextSibling;
        else old.insertBefore(candidate, at);
        if (next.nodeType === Node.ELEMENT_NODE) assimilate(candidate, next);
        else if (candidate.data !== next.data) candidate.data = next.data;
      } else {
        old.insertBefore(document.importNode(next, true), at);
      }
    }
    while (at) at = without(at);
  }

  // Remove a node; the one after it takes its place.
  function without(node) {
    const following = node.nextSibling;
    node.remove();
    return following;
  }

  // Remove line breaks between elements, which would come between what belongs together.
  function compact(element) {
    for (const child of [...element.childNodes]) {
      if (child.nodeType === Node.TEXT_NODE && /^\s*\n\s*$/.test(child.data)) child.remove();
    }
  }

  // Said aloud, so only when it changes.
  function say(text) {
    if (notice.textContent !== text) notice.textContent = text;
  }

  async function refresh() {
    const response = await fetch(location.origin + location.pathname, {
      cache: "no-store",
      signal: AbortSignal.timeout(10000),
    });
    if (!response.ok) throw new Error(`it answered with status ${response.status}`);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!fresh.getElementById("main")) throw new Error("it answered with another page");
    if (fresh.documentElement.dataset.version !== root.dataset.version) {
      location.reload();
      return;
    }
    localise(fresh);
    document.title = fresh.title;
    assimilate(main, fresh.getElementById("main"));
    say("");
  }

  async function tick() {
    clearTimeout(timer);
    if (busy || paused || document.hidden) return;
    busy = true;
    try {
      await refresh();
    } catch (error) {
      const why = error instanceof TypeError || error.name === "TimeoutError" ? "it cannot be reached" : error.message;
      say(`This page is not up to date: the exporter does not give a new one, ${why}.`);
    }
    busy = false;
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    timer = setTimeout(tick, Number(root.dataset.refresh) * 1000);
  }

  // A link to an account opens it.
  function unfold() {
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
  addEventListener("hashchange", unfold);
  document.getElementById("zone").textContent =
    `Times are in the zone ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`;
  localise(document);
  unfold();
  schedule();
})();
