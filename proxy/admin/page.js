"use strict";
// The page is rendered by the server. This asks for it every two seconds and
// changes what is different, counts down in between, and copies. Text goes from
// one document to the other as nodes; nothing here turns text into markup.
(() => {
  const interval = 2000, patience = 4000; // ms
  const root = document.documentElement;
  const $ = id => document.getElementById(id);
  let skew = 0; // the server's clock less ours, in ms
  let timer, held;

  // morph makes node equal to next and keeps every node that it can: focus,
  // selection and opened details survive. What is held is in use, and left alone.
  function morph(node, next) {
    if (node.isEqualNode(next) || node.classList?.contains("held")) return;
    if (node.nodeType !== Node.ELEMENT_NODE) {
      node.data = next.data;
      return;
    }
    for (const { name } of [...node.attributes]) {
      if (!next.hasAttribute(name) && name !== "open") node.removeAttribute(name);
    }
    for (const { name, value } of next.attributes) {
      if (node.getAttribute(name) !== value && name !== "open") node.setAttribute(name, value);
    }
    morphChildren(node, next);
  }

  // morphChildren takes items of a list for the same by their key, and all
  // others by their place.
  function morphChildren(node, next) {
    const key = n => n.dataset?.key;
    const kept = new Map([...node.children].filter(key).map(n => [key(n), n]));
    let at = node.firstChild;
    for (const want of [...next.childNodes]) {
      const have = key(want) ? kept.get(key(want)) : at;
      if (have && have.nodeName === want.nodeName && key(have) === key(want)) {
        if (have === at) at = at.nextSibling;
        else node.insertBefore(have, at);
        morph(have, want);
      } else {
        node.insertBefore(document.importNode(want, true), at);
      }
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  function update(next) {
    if (next.documentElement.dataset.assets !== root.dataset.assets) {
      location.reload(); // another version answers now
      return;
    }
    const focused = document.activeElement;
    morph($("page"), next.getElementById("page"));
    if (document.activeElement !== focused && focused.isConnected) focused.focus({ preventScroll: true });
    document.title = next.title;
    morph(document.querySelector("link[rel=icon]"), next.querySelector("link[rel=icon]"));
    morph($("asof"), next.getElementById("asof"));
    readClock();
    lost(false);
    tick();
    beat();
  }

  function beat() {
    const dot = document.querySelector(".beat");
    dot.classList.remove("now");
    void dot.offsetWidth; // starts the animation anew
    dot.classList.add("now");
  }

  function lost(yes) {
    root.classList.toggle("gone", yes);
    $("live").textContent = yes ? "As of" : "Live,";
    if (!yes) {
      $("lost").hidden = true;
    } else if ($("lost").hidden) {
      $("lost").textContent = `The sidecar does not answer. This is how it was at ${$("asof").textContent} UTC; asking again every 2 s.`;
      $("lost").hidden = false;
      document.title = "No answer · entra-sidecar";
    }
  }

  async function poll() {
    clearTimeout(timer);
    if (!document.hidden) await ask().then(update, () => lost(true));
    clearTimeout(timer);
    timer = setTimeout(poll, interval);
  }

  async function ask() {
    const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(patience) });
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok || !next.getElementById("page")) throw new Error("this is not the page");
    return next;
  }

  function readClock() {
    skew = Date.parse($("page").dataset.time) - Date.now();
  }

  // span and age are those of page.go.
  function span(s) {
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
  }

  function age(s) {
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h`;
    return `${Math.floor(s / 86400)} d`;
  }

  function tick() {
    const now = Date.now() + skew;
    for (const time of document.querySelectorAll("time[data-until], time[data-since]")) {
      const seconds = Math.max(0, Math.floor(Math.abs(Date.parse(time.dateTime) - now) / 1000));
      const past = Date.parse(time.dateTime) < now, until = "until" in time.dataset;
      const text = (until ? span : age)(past === until ? 0 : seconds);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  async function copy(button) {
    await write(button.dataset.copy);
    const use = button.querySelector("use");
    use.setAttribute("href", "#copied");
    button.classList.add("held");
    $("said").textContent = `Copied the ${button.dataset.what}.`;
    setTimeout(() => {
      use.setAttribute("href", "#copy");
      button.classList.remove("held");
      $("said").textContent = "";
    }, 1600);
  }

  // A page that came by plain http from another machine has no clipboard API.
  async function write(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const focused = document.activeElement, area = document.createElement("textarea");
    area.className = "offscreen";
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    focused.focus({ preventScroll: true });
  }

  function release() {
    document.querySelector(".traffic.held")?.classList.remove("held");
  }

  // read shows what happened where the pointer is. The cell stands still
  // meanwhile, and the next answer of the server brings it up to date.
  function read(plot, event) {
    const box = plot.getBoundingClientRect();
    const x = Math.max(0, Math.min(119, Math.floor((event.clientX - box.left) / box.width * 120)));
    const point = plot.dataset.points.split(" ").map(p => p.split(":")).find(p => +p[0] === x);
    const time = new Date(Date.parse(plot.dataset.end) - (120 - x) * 5000).toISOString().slice(11, 19);
    const cell = plot.closest(".traffic"), readout = cell.querySelector(".readout");
    if (!readout) return;
    cell.classList.add("held");
    cell.querySelector(".cursor").setAttribute("d", `M${x} 0h1v32h-1z`);
    clearTimeout(held);
    held = setTimeout(release, 2 * interval);
    readout.textContent = point ? `${time}: ${point[1]} requests, ${point[2]} errors` : `${time}: no requests`;
  }

  root.classList.add("js");
  $("live").textContent = "Live,";
  readClock();
  document.addEventListener("click", event => {
    const button = event.target.closest(".copy");
    if (button) copy(button);
  });
  document.addEventListener("pointermove", event => {
    const plot = event.target.closest(".plot");
    release();
    if (plot) read(plot, event);
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  setInterval(tick, 1000);
  timer = setTimeout(poll, interval);
})();
