"use strict";

/*
 * The set page: a token becomes a session, two equal entries become a JWE, the session ends.
 * The session's secret is in a variable only: a reload, or leaving the page, ends it.
 */
(() => {
  // Before anything else: the address bar, the history and no Referer show the token any longer.
  const token = new URLSearchParams(location.search).get("token");
  history.replaceState(null, "", location.pathname);

  const DONE_SHOWN_MS = 2000;
  const TICK_MS = 1000;
  const path = (name) => "/pin-direct/" + name;

  const start = () => {
    const parts = pageParts;
    const { byId } = parts;
    const [confirm, cancel, extend] = ["confirm", "cancel", "extend"].map(byId);
    let session = null;
    let config = null;
    let entry = null;
    let endsAtMs = 0;
    let warned = false;
    let busy = false;
    let ticking = null;

    const leave = () => {
      if (config.embedded) {
        for (const origin of config.targetOrigins) {
          window.parent.postMessage({ type: "abort" }, origin);
        }
      } else if (config.redirectUrl) {
        location.replace(config.redirectUrl);
      }
    };

    const wayOut = () => {
      if (config?.embedded) return { button: { text: "close", press: leave } };
      if (config?.redirectUrl) return { button: { text: "back", press: leave } };
      return {};
    };

    const end = (state, shown = {}) => {
      session = null;
      clearInterval(ticking);
      entry?.clear();
      parts.showNotice(state, { ...wayOut(), ...shown });
    };

    const left = () => Math.max(0, Math.ceil((endsAtMs - Date.now()) / 1000));
    const writeWarning = () => {
      byId("warning-text").textContent = parts.text(extend.hidden ? "last_warning" : "warning");
      byId("seconds-left").textContent = parts.text("seconds_left", { seconds: left() });
    };

    const tick = () => {
      if (busy) return;
      if (left() === 0) {
        end("expired");
      } else if (left() <= config.warnSeconds) {
        byId("warning").hidden = false;
        writeWarning();
        // Once: a countdown that is spoken each second drowns everything else.
        if (!warned) parts.announce(byId("warning").querySelector("p").textContent);
        warned = true;
      }
    };

    const setTime = (seconds) => {
      endsAtMs = Date.now() + seconds * 1000;
      warned = false;
      byId("warning").hidden = true;
    };

    const prolong = async () => {
      if (busy) return;
      const before = left();
      const { status, members } = await parts.post(path("extend"), { session });
      if (session === null) return;
      if (status === 410) return end("expired");
      if (status !== 200) return;
      // The server's limit is reached: what cannot help is no longer offered.
      extend.hidden = members.expiresInSeconds <= Math.max(before, config.warnSeconds);
      setTime(members.expiresInSeconds);
      tick();
      if (!warned) parts.announce(parts.text("extended"));
      if (!entry.first.input.value) entry.first.input.focus();
      else entry.second.input.focus();
    };

    const finish = (state) => {
      const somewhere = config.embedded || config.redirectUrl;
      end(state, { next: somewhere ? "leave" : "close_page" });
      setTimeout(leave, state === "done" ? DONE_SHOWN_MS : 0);
    };

    const setBusy = (value) => {
      busy = value;
      byId("pin-form").setAttribute("aria-busy", String(value));
      confirm.disabled = cancel.disabled = value;
      entry.first.input.disabled = value;
      if (value) {
        confirm.textContent = parts.text("saving");
        parts.announce(parts.text("saving"));
      } else {
        confirm.textContent = parts.text("confirm");
      }
    };

    const submit = async (event) => {
      event.preventDefault();
      if (busy || session === null) return;
      if (!entry.ready()) return;
      const digits = entry.take();
      setBusy(true);
      let answer;
      try {
        const jwe = await pinJwe.ofPin(digits, session, config.key);
        answer = await parts.post(path("submit"), { session, jwe });
      } catch {
        answer = { status: 0, members: {} };
      }
      setBusy(false);
      if (answer.status === 204) return finish("done");
      if (answer.status === 410) return end("ended");
      if (answer.status !== 422) return end("failed");
      const length = answer.members.reason === "length";
      entry.restart(length ? "error_length_" + entry.span : "error_weak");
      tick();
    };

    const open = async () => {
      if (token === null) return end("ended");
      parts.showNotice("loading");
      const { status, members } = await parts.post(path("session"), { token });
      if (status === 410) return end("ended");
      // The token is not spent: the same page may try again.
      if (status !== 200) {
        return end(status === 429 ? "limited" : "away", { button: { text: "retry", press: open } });
      }
      config = members;
      session = members.session;
      entry = new PinEntry(
        { input: byId("first-pin"), hint: byId("first-hint") },
        { input: byId("second-pin"), hint: byId("second-hint") },
        { refuseRepeated: true, refuseRuns: false, ...members },
        parts,
        () => {},
      );
      byId("entry-intro").textContent = entry.intro;
      parts.onLanguage(() => {
        byId("entry-intro").textContent = entry.intro;
        entry.retext();
        writeWarning();
      });
      setTime(members.expiresInSeconds);
      ticking = setInterval(tick, TICK_MS);
      parts.showEntry();
      byId("first-pin").focus();
    };

    byId("pin-form").addEventListener("submit", submit);
    extend.addEventListener("click", prolong);
    cancel.addEventListener("click", () => {
      if (busy || session === null) return;
      parts.post(path("cancel"), { session }, { keepalive: true });
      finish("cancelled");
    });

    document.addEventListener("visibilitychange", () => {
      if (!document.hidden || !entry || session === null || busy) return;
      const touched = entry.first.input.value !== "";
      entry.clear();
      if (touched) entry.restart("cleared");
    });
    addEventListener("pagehide", () => {
      entry?.clear();
      if (session !== null && !busy) {
        parts.post(path("cancel"), { session }, { keepalive: true });
      }
      session = null;
    });
    addEventListener("pageshow", (event) => {
      if (event.persisted) end("ended");
    });

    if (pinJwe.supported()) open();
    else parts.showNotice("insecure");
  };

  addEventListener("DOMContentLoaded", () => {
    // A part that did not load: the page's own text says what to do.
    const loaded = [typeof pageParts, typeof pinJwe, typeof PinEntry];
    if (!loaded.includes("undefined")) start();
  });
})();
