"use strict";
(() => {
  const root = document.documentElement;
  const main = document.getElementById("main");
  const notice = document.getElementById("notice");
  const button = document.getElementById("pause");
  const clock = new Intl.DateTimeFormat(undefined, {timeStyle: "medium"});
  const calendar = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "medium"});
  const unitSeconds = {ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000};
  let paused = false;
  let busy = false;
  let timer;
  let sortColumn = -1;
  let descending = false;
  let wanted = "";

  // Add to a tree, a fresh one too, all that needs a script.
  function enhance(tree) {
    localize(tree);
    for (const element of tree.querySelectorAll(".id bdi, code")) element.after(copyButton(element.textContent));
    const overview = tree.querySelector(".overview");
    if (overview) {
      overview.querySelector("#filter").hidden = false;
      addSortButtons(overview);
      sortRows(overview);
      filterAccounts(tree);
    }
  }

  function copyButton(text) {
    const copy = document.createElement("button");
    copy.type = "button";
    copy.className = "copy";
    copy.textContent = "Copy";
    copy.ariaLabel = `Copy ${text}`;
    return copy;
  }

  // Without TLS, browsers have no clipboard but that of the selection.
  async function copyText(copy) {
    const element = copy.previousElementSibling;
    getSelection().selectAllChildren(element);
    try {
      await navigator.clipboard.writeText(element.textContent);
    } catch {
      document.execCommand("copy");
    }
    copy.textContent = copy.ariaLabel = "Copied";
  }

  function addSortButtons(overview) {
    overview.querySelectorAll("thead th").forEach((header, column) => {
      const sort = document.createElement("button");
      sort.type = "button";
      sort.className = "sort";
      sort.append(...header.childNodes);
      header.append(sort);
      if (column === sortColumn) header.ariaSort = descending ? "descending" : "ascending";
    });
  }

  // Numbers and durations sort by value, states by urgency, other texts by alphabet; cells without a value come last.
  function sortValue(row) {
    const cell = row.cells[sortColumn];
    const text = cell.textContent.trim();
    if (cell.dataset.rank) return Number(cell.dataset.rank);
    if (text === "unknown") return "";
    if (text === "" || sortColumn === 0 || sortColumn === 9) return text.toLowerCase();
    if (/^[\d,]+$/.test(text)) return Number(text.replaceAll(",", ""));
    let seconds = 0;
    for (const [, number, unit] of text.matchAll(/(\d+)(ms|[smhdwy])/g)) seconds += number * unitSeconds[unit];
    return seconds;
  }

  function sortRows(overview) {
    if (sortColumn < 0) return;
    const rows = Array.from(overview.querySelectorAll("tbody tr"), (row) => [sortValue(row), row]);
    const direction = descending ? -1 : 1;
    rows.sort(([one], [other]) => {
      if (one === other) return 0;
      if (one === "" || other === "") return one === "" ? 1 : -1;
      return one < other ? -direction : direction;
    });
    overview.querySelector("tbody").append(...rows.map(([, row]) => row));
  }

  // Hide the accounts whose name does not contain the text of the filter.
  function filterAccounts(tree) {
    for (const account of tree.querySelectorAll(".overview tbody tr, details.account")) {
      account.hidden = !account.querySelector("th, h2").textContent.toLowerCase().includes(wanted);
    }
  }

  // Say so if the filters leave no account.
  function showWhetherEmpty() {
    const rows = [...main.querySelectorAll(".overview tbody tr")];
    for (const none of main.querySelectorAll(".none")) none.hidden = rows.some((row) => row.checkVisibility());
  }

  function filterByName(text) {
    wanted = text.trim().toLowerCase();
    filterAccounts(main);
  }

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
    if ("open" in fresh.dataset && !("open" in old.dataset)) old.open = true;
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
    const response = await fetch(location.origin + location.pathname + location.search, {
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
    enhance(fresh);
    document.title = fresh.title;
    update(main, fresh.getElementById("main"));
    showWhetherEmpty();
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
  main.addEventListener("click", ({target}) => {
    if (target.className === "copy") copyText(target);
    if (target.className === "all") {
      main.querySelector("#filter input").value = "";
      filterByName("");
      showWhetherEmpty();
    }
    if (target.className !== "sort") return;
    const overview = target.closest(".overview");
    const column = target.parentElement.cellIndex;
    // Numbers begin with the largest, texts with the first.
    descending = column === sortColumn ? !descending : column > 1 && column < 9;
    sortColumn = column;
    for (const header of overview.querySelectorAll("th[aria-sort]")) header.ariaSort = null;
    target.parentElement.ariaSort = descending ? "descending" : "ascending";
    sortRows(overview);
  });
  main.addEventListener("input", ({target}) => {
    if (target.type === "search") filterByName(target.value);
    showWhetherEmpty();
  });
  document.addEventListener("visibilitychange", tick);
  addEventListener("hashchange", () => {
    openTarget();
    showWhetherEmpty();
  });
  document.getElementById("zone").textContent =
    `Time zone: ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`;
  enhance(document);
  openTarget();
  showWhetherEmpty();
  schedule();
})();
