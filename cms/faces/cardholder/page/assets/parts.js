"use strict";

/* What every page has: its texts and their language, its notices, its way to the server. */
const pageParts = (() => {
  const TIMEOUT_MS = 15000;
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("page-data").textContent);
  const known = { [data.language]: data.messages };
  const retexted = [];
  let messages = data.messages;
  let shown = null;
  let title = null;
  let card = null;

  const text = (key, values = {}) =>
    messages[key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));

  const announce = (words) => {
    byId("status").textContent = words;
  };

  const fill = (element, key) => {
    element.hidden = !key;
    element.textContent = key ? text(key) : "";
  };

  const showOnly = (part) => {
    for (const section of document.querySelectorAll("main > section")) {
      section.hidden = section.id !== part;
    }
    byId("language-bar").hidden = false;
  };

  const writeNotice = () => {
    const { state, next, button } = shown;
    byId("notice-title").textContent = text(state + "_title");
    byId("notice-text").textContent = text(state + "_text");
    fill(byId("notice-next"), next);
    fill(byId("notice-button"), button?.text);
    document.title = text(state + "_title");
  };

  /* Four dots and four digits, which are read out as words. */
  const writeCard = () => {
    byId("card").textContent = "\u2022\u2022\u2022\u2022\u00a0" + card;
    byId("card").setAttribute("aria-label", text("card_ending", { digits: card }));
  };

  const retext = () => {
    for (const element of document.querySelectorAll("[data-text]")) {
      element.textContent = text(element.dataset.text);
    }
    if (title) document.title = text(title);
    if (shown) writeNotice();
    if (card) writeCard();
    retexted.forEach((write) => write());
  };

  const useLanguage = async (language) => {
    const { url, integrity } = data.languages[language];
    known[language] ??= await (await fetch(url, { integrity, credentials: "omit" })).json();
    messages = known[language];
    document.documentElement.lang = language;
    document.documentElement.dir = messages.direction;
    retext();
  };

  const request = async (path, body, { keepalive = false } = {}) => {
    try {
      return await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        credentials: "omit",
        cache: "no-store",
        redirect: "error",
        referrerPolicy: "no-referrer",
        keepalive,
        signal: keepalive ? undefined : AbortSignal.timeout?.(TIMEOUT_MS),
      });
    } catch {
      return null;
    }
  };

  byId("language").addEventListener("change", async ({ target }) => {
    try {
      await useLanguage(target.value);
    } catch {
      // The texts cannot be had: the page stays as it is.
      target.value = document.documentElement.lang;
    }
  });
  byId("notice-button").addEventListener("click", () => shown?.button?.press());

  return {
    byId,
    text,
    announce,

    /* POST *body* as JSON; the answer, null when there was none. */
    request,

    /* Have *write* called whenever the language changes. */
    onLanguage(write) {
      retexted.push(write);
    },

    /* Say which card the page is for, by the last four digits of its number. */
    nameCard(digits) {
      if (!/^[0-9]{4}$/.test(digits)) return;
      card = digits;
      writeCard();
      byId("card").hidden = byId("whose").hidden = false;
    },

    /* Show one part of the page only; heading: the text that is the document's title too. */
    show(part, heading) {
      shown = null;
      title = heading;
      showOnly(part);
      document.title = text(heading);
    },

    /*
     * Show why there are no fields, and what to do: state names the texts, next is one more of
     * them, button is {text, press}; quiet: nothing has happened that is to be told.
     */
    showNotice(state, { next = null, button = null, quiet = false } = {}) {
      shown = { state, next, button };
      showOnly("notice");
      byId("notice").dataset.state = state;
      writeNotice();
      announce("");
      if (!quiet) byId("notice-title").focus();
    },

    /* POST *body* as JSON; the answer's status and members, status 0 when there was none. */
    async post(path, body, options) {
      const answer = await request(path, body, options);
      const members = await answer?.json().catch(() => ({}));
      return { status: answer?.status ?? 0, members: members ?? {} };
    },
  };
})();
