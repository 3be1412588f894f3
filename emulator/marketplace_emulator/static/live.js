// Keeps a page up to date without a reload: the server says when something has changed, and the parts of the page that
// are marked with data-live are taken from the page as it is then. Pages work without this script too.
(() => {
  "use strict";
  const body = document.body;
  const seen = new Map();
  let stream = null;
  let loading = false;
  let again = false;

  // A part in which somebody types, or has typed, or whose form is being carried out, stays as it is.
  const isInUse = (part) => {
    if (part.querySelector("[aria-busy]")) return true;
    const active = document.activeElement;
    const typing = active && part.contains(active) && active.matches("input, select, textarea");
    const fields = [...part.querySelectorAll("input, select, textarea")];
    return typing || fields.some((field) =>
      field.tagName === "SELECT"
        ? [...field.options].some((option) => option.selected !== option.defaultSelected && field.dataset.touched)
        : field.value !== field.defaultValue || field.checked !== field.defaultChecked);
  };

  const replaced = (part, fresh) => {
    const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && [...part.querySelectorAll("a, button, summary, pre")].indexOf(focused);
    part.replaceWith(fresh);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) [...fresh.querySelectorAll("a, button, summary, pre")][place]?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (loading) {
      again = true;
      return;
    }
    loading = true;
    try {
      const response = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" } });
      if (!response.ok) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const fresh = page.getElementById(part.id);
        if (fresh && fresh.outerHTML !== seen.get(part.id) && !isInUse(part)) {
          seen.set(part.id, fresh.outerHTML);
          replaced(part, fresh);
        }
      }
      body.dataset.version = page.body.dataset.version;
      startClock();
    } catch {
      // The server has gone; the stream connects again when it is back.
    } finally {
      loading = false;
      if (again) {
        again = false;
        setTimeout(refresh, 500);
      }
    }
  };

  // One connection for the page that is looked at: a browser opens only six to a server.
  const listen = () => {
    stream?.close();
    stream = null;
    if (document.hidden) return;
    stream = new EventSource(`/changes?since=${encodeURIComponent(body.dataset.version)}`);
    stream.onmessage = refresh;
  };

  let started = 0;
  let shownAt = 0;
  const startClock = () => {
    const clock = document.querySelector("#clock time[data-running]");
    shownAt = clock ? Date.parse(clock.getAttribute("datetime")) : 0;
    started = performance.now();
  };
  setInterval(() => {
    const clock = document.querySelector("#clock time[data-running]");
    if (clock && shownAt) {
      const now = new Date(shownAt + performance.now() - started).toISOString();
      clock.textContent = `${now.slice(0, 10)} ${now.slice(11, 19)}`;
    }
  }, 1000);

  // Moving the clock can take seconds: say that it is being done, and take no second click.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.getAttribute("aria-busy")) {
      event.preventDefault();
      return;
    }
    if (form.method !== "post") return;
    form.setAttribute("aria-busy", "true");
    setTimeout(() => form.removeAttribute("aria-busy"), 60000);
    const said = form.closest("#clock")?.querySelector("small");
    if (said) said.textContent = "moving …";
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) document.querySelectorAll("form[aria-busy]").forEach((form) => form.removeAttribute("aria-busy"));
  });
  document.addEventListener("change", (event) => {
    if (event.target.tagName === "SELECT") event.target.dataset.touched = "";
  });

  // What became of a form is said once, and not again when the page is loaded again.
  const address = new URL(location.href);
  if (address.searchParams.has("notice")) {
    address.searchParams.delete("notice");
    history.replaceState(null, "", address);
  }

  document.addEventListener("visibilitychange", listen);
  window.addEventListener("pagehide", () => stream?.close());
  startClock();
  listen();
})();
