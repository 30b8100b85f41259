"use strict";

/*
 * The hosted set page: a token becomes a session, and its end leads back to the app.
 * The session's secret is in a variable only: a reload, or leaving the page, ends it.
 */
(() => {
  // Before anything else: the address bar, the history and no Referer show the token any longer.
  const token = new URLSearchParams(location.search).get("token");
  history.replaceState(null, "", location.pathname);

  const DONE_SHOWN_MS = 2000;
  const path = (verb) => "/pin-direct/" + verb;

  const start = () => {
    const parts = pageParts;
    let app = null;

    // An app may show the page by itself all the same: then there is nobody to tell.
    const framed = () => app?.embedded && window.parent !== window;

    const leave = () => {
      if (framed()) {
        for (const origin of app.targetOrigins) {
          try {
            window.parent.postMessage({ type: "abort" }, origin);
          } catch {
            // An app's own scheme, which only its own webview knows as an origin.
          }
        }
      } else if (app.redirectUrl) {
        location.replace(app.redirectUrl);
      }
    };

    const wayOut = () => {
      if (framed()) return { button: { text: "close", press: leave } };
      if (app?.redirectUrl) return { button: { text: "back", press: leave } };
      return {};
    };

    const end = (state, shown = {}) => parts.showNotice(state, { ...wayOut(), ...shown });

    const finish = (state) => {
      end(state, { next: framed() || app.redirectUrl ? "leave" : "close_page" });
      setTimeout(leave, state === "done" ? DONE_SHOWN_MS : 0);
    };

    const flow = new SetFlow(parts, path, {
      changed: () => {},
      invalid: () => {},
      over: (state) => (state === "done" ? finish : end)(state),
    });

    const open = async () => {
      if (token === null) return end("used");
      parts.showNotice("loading");
      const { status, members } = await parts.post(path("session"), { token });
      if (status === 410) return end("ended");
      // The control token is not consumed: the same page may try again.
      if (status !== 200) {
        return end(status === 429 ? "limited" : "away", { button: { text: "retry", press: open } });
      }
      app = members;
      flow.begin(token, members);
    };

    parts.byId("cancel").addEventListener("click", () => {
      if (flow.busy || !flow.open) return;
      flow.cancel();
      finish("cancelled");
    });
    addEventListener("pageshow", (event) => {
      if (event.persisted) end("used");
    });

    if (pinJwe.supported()) open();
    else parts.showNotice("insecure");
  };

  addEventListener("DOMContentLoaded", () => {
    // A part that did not load: the page's own text says what to do.
    const loaded = [typeof pageParts, typeof pinJwe, typeof PinSlots, typeof PinEntry, typeof SetFlow];
    if (!loaded.includes("undefined")) start();
  });
})();
