// What the pages do by themselves: new rows, new figures, the choice of the theme. All of it is made by the server;
// the script only fetches it and puts it in its place. Without it the pages work, and are as fresh as their last load.
(() => {
  "use strict";

  const ROWS_EVERY = 1000;
  const FIGURES_EVERY = 5000;
  const SLOWEST = 15000;
  const ROWS_SHOWN = 200;

  const find = (id) => document.getElementById(id);

  const TROUBLE = "The backend does not answer. What you see may be old; trying again.";

  // Text is read out where a region of status changes, not where one appears.
  function tell(place, text) {
    if (place.textContent !== text) place.textContent = text;
  }

  function showTrouble(lasting) {
    tell(find("trouble"), lasting ? TROUBLE : "");
    document.documentElement.classList.toggle("lost", lasting);
  }

  // Calls `work` again and again, more slowly while the backend doesn't answer, and not while nobody looks.
  function keepFresh(work, every) {
    let failures = 0;
    async function turn() {
      if (!document.hidden) {
        try {
          await work();
          failures = 0;
        } catch {
          failures += 1;
        }
        showTrouble(failures > 1);
      }
      setTimeout(turn, Math.min(every * 2 ** failures, SLOWEST));
    }
    setTimeout(turn, every);
  }

  async function ask(address) {
    const answer = await fetch(address, { cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(10000) });
    // The session has ended: the page itself leads to the sign-in.
    if (answer.type === "opaqueredirect") location.reload();
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer;
  }

  function piece(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  }

  // Events: rows that came since the newest one that is known, each put where its time belongs.
  function showNewRows(body) {
    let newest = body.dataset.newest;
    let paused = false;
    const pause = find("pause");
    find("live").hidden = pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.textContent = paused ? "Go on" : "Pause";
      find("live-says").textContent = paused ? "Paused" : "Live";
      find("live").classList.toggle("paused", paused);
      tell(find("arrivals"), paused ? "New events are held back." : "New events are shown.");
    });

    keepFresh(async () => {
      if (paused) return;
      const answer = await ask(`${body.dataset.liveRows}&after=${newest}`);
      if (answer.status === 204) return;
      const rows = [...piece(await answer.text()).querySelectorAll("tr")];
      newest = answer.headers.get("X-Newest-Id");
      let added = 0;
      for (const row of rows.reverse()) {
        if (body.querySelector(`tr[data-id="${row.dataset.id}"]`)) continue;
        added += 1;
        const older = [...body.rows].find((one) => one.dataset.time <= row.dataset.time);
        row.classList.add("new");
        body.insertBefore(row, older ?? null);
      }
      while (body.rows.length > ROWS_SHOWN) body.lastElementChild.remove();
      if (added) tell(find("arrivals"), `${added} new ${added === 1 ? "event" : "events"} at ${new Date().toLocaleTimeString("en-GB", { timeZone: document.documentElement.dataset.zone })}`);
      if (body.rows.length) {
        body.closest("table").hidden = false;
        find("no-rows").hidden = true;
      }
    }, ROWS_EVERY);
  }

  // Figures and agents: all of them anew. What is open stays so; what has the focus or is marked is left alone.
  function showAnew(place) {
    keepFresh(async () => {
      const fresh = piece(await (await ask(place.dataset.live)).text());
      const selection = document.getSelection();
      if (place.contains(document.activeElement) || place.querySelector(".selection") || (selection.toString() && place.contains(selection.anchorNode))) return;
      for (const known of place.querySelectorAll("details[data-keep]")) {
        fresh.querySelector(`details[data-keep="${CSS.escape(known.dataset.keep)}"]`)?.toggleAttribute("open", known.open);
      }
      place.replaceChildren(fresh);
    }, FIGURES_EVERY);
  }

  function offerTheme(button) {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const current = () => root.dataset.theme ?? (system.matches ? "dark" : "light");
    const say = () => {
      find("theme-says").textContent = current() === "dark" ? "Use light colours" : "Use dark colours";
    };
    button.hidden = false;
    say();
    system.addEventListener("change", say);
    button.addEventListener("click", () => {
      const wanted = current() === "dark" ? "light" : "dark";
      // What the system wants needs no note: the page goes on following it.
      if (wanted === (system.matches ? "dark" : "light")) delete root.dataset.theme;
      else root.dataset.theme = wanted;
      try {
        if (root.dataset.theme) localStorage.setItem("guard-theme", wanted);
        else localStorage.removeItem("guard-theme");
      } catch { /* A browser may forbid storage: the choice lasts as long as the page. */ }
      say();
    });
  }

  // On a narrow screen the filters would be all that one sees.
  function foldFilters(filters) {
    const narrow = matchMedia("(max-width: 46rem)");
    const fold = () => { filters.open = !narrow.matches || "inUse" in filters.dataset; };
    narrow.addEventListener("change", fold);
    fold();
  }

  // The parts of the rules' form: closed ones are for a narrow screen.
  function unfold(groups) {
    const wide = matchMedia("(min-width: 46.01rem)");
    const open = () => { if (wide.matches) for (const group of groups) group.open = true; };
    wide.addEventListener("change", open);
    open();
  }

  // What is of use with a script alone; some of it comes with figures that are put in later.
  function showScripted() {
    const show = (place) => { for (const one of place.querySelectorAll("[data-scripted]")) one.hidden = false; };
    show(document);
    new MutationObserver((changes) => {
      for (const { target } of changes) if (target.querySelectorAll) show(target);
    }).observe(find("content"), { childList: true, subtree: true });
  }

  // A time is chosen by dragging over a chart, or one bar by a press. What is put in anew needs no listener of its own.
  function offerRanges() {
    let drag = null;
    const barAt = ({ svg, bars }, x) => {
      const box = svg.getBoundingClientRect();
      return Math.max(0, Math.min(bars.length - 1, Math.floor(((x - box.left) / box.width) * bars.length)));
    };
    const end = () => { drag?.mark.remove(); drag = null; };
    const reach = (x) => {
      drag.to = barAt(drag, x);
      const [first, last] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
      const width = 1000 / drag.bars.length;
      drag.mark.setAttribute("x", first * width);
      drag.mark.setAttribute("width", (last - first + 1) * width);
      return [drag.bars[first], drag.bars[last]];
    };
    document.addEventListener("pointerdown", (event) => {
      const svg = event.target.closest("svg[data-range]");
      if (!svg || event.button !== 0) return;
      const mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      mark.setAttribute("class", "selection");
      mark.setAttribute("height", "200");
      drag = { svg, mark, bars: [...svg.querySelectorAll("[data-since]")] };
      drag.from = barAt(drag, event.clientX);
      svg.append(mark);
      svg.setPointerCapture(event.pointerId);
      reach(event.clientX);
    });
    document.addEventListener("pointermove", (event) => { if (drag) reach(event.clientX); });
    document.addEventListener("pointerup", (event) => {
      if (!drag) return;
      const [first, last] = reach(event.clientX);
      const address = `${drag.svg.dataset.range}&since=${first.dataset.since}&until=${last.dataset.until}`;
      end();
      location.assign(address);
    });
    document.addEventListener("pointercancel", end);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") end(); });
  }

  // Commands can be copied with one press; what can't be copied is marked, to be copied by hand. The list of agents
  // is put in anew, so that the document listens and not each button.
  function offerCopies() {
    document.addEventListener("click", async (event) => {
      const button = event.target.closest("[data-copy]");
      if (!button) return;
      const text = button.previousElementSibling;
      getSelection().selectAllChildren(text);
      let done = false;
      try {
        await navigator.clipboard.writeText(text.textContent);
        done = true;
      } catch { /* Plain HTTP from elsewhere has no clipboard, and a browser may refuse it. */ }
      button.textContent = done ? "Copied" : "Marked";
      tell(button.nextElementSibling, done ? "Copied." : "The command is marked: copy it with the keyboard.");
    });
  }

  // The browser's own zone, where it is another one than that which times are written in.
  function offerOwnZone(form) {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (!zone || zone === document.documentElement.dataset.zone) return;
    const button = form.querySelector("button");
    button.value = zone;
    button.textContent = `Use this browser’s: ${zone}`;
    form.hidden = false;
  }

  const rows = document.querySelector("[data-live-rows]");
  const whole = document.querySelector("[data-live]");
  if (rows) showNewRows(rows);
  if (whole) showAnew(whole);
  if (find("filtering")) foldFilters(find("filtering"));
  unfold(document.querySelectorAll("[data-group]"));
  if (find("own-zone")) offerOwnZone(find("own-zone"));
  showScripted();
  offerRanges();
  offerCopies();
  offerTheme(find("theme"));
  for (const select of document.querySelectorAll("select[data-submit]")) {
    select.nextElementSibling.hidden = true;
    select.addEventListener("change", () => select.form.requestSubmit());
  }
})();
