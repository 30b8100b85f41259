"use strict";

/*
 * The app around the page, a native one or a parent window: what it asks for, from the moment on
 * that this script has run, and what it is told. Nobody else is heard, nobody else is told.
 */
(() => {
  const ID_CHARS_MAX = 64;
  const PURPOSES = new Map([["view-pin", "view"], ["set-pin", "set"]]);

  const element = document.getElementById("page-start");
  const start = JSON.parse(element.textContent);
  element.remove();
  const framed = start.flow === "frame";
  let parentOrigin = null;
  // Of several ids the first counts, so no other is kept.
  let waiting = framed || start.failed ? null : [start.purpose, start.controlId];

  const attempt = (call) => {
    try {
      call();
    } catch {
      // Whatever the app does, the page goes on.
    }
  };

  /* Tell the app of an event; pin_valid alone has a value. */
  const tell = (event, ...valid) => {
    const message = valid.length ? { event, pin_valid: valid[0] } : { event };
    if (framed) {
      const origins = parentOrigin === null ? start.targetOrigins : [parentOrigin];
      if (window.parent === window) return;
      for (const origin of origins) attempt(() => window.parent.postMessage(message, origin));
      return;
    }
    // Looked up each time: an app may add its handlers late, and take them away.
    attempt(() => window.android_handler?.[event]?.(...valid));
    attempt(() => window.webkit?.messageHandlers?.ios_handler?.postMessage(message));
  };

  let page = {
    open: (...asked) => {
      waiting ??= asked;
    },
    setPin: () => {
      if (waiting?.[0] !== "view") tell("set_pin_validation_error");
    },
  };
  const broken = {
    open: (purpose) => tell(purpose + "_pin_error"),
    setPin: () => {},
  };

  const isPlain = (data) =>
    typeof data === "object" && data !== null && Object.getPrototypeOf(data) === Object.prototype;

  const hear = ({ data, origin, source }) => {
    if (!framed || window.parent === window || source !== window.parent) return;
    if (!start.targetOrigins.includes(origin) || !isPlain(data)) return;
    const { operation, controlId } = data;
    const submits = operation === "set-pin-set";
    const opens =
      PURPOSES.has(operation) &&
      typeof controlId === "string" && controlId.length <= ID_CHARS_MAX;
    if (submits || opens) parentOrigin = origin;
    if (submits) page.setPin();
    if (opens) page.open(PURPOSES.get(operation), controlId);
  };

  // What a browser would post again, and keep on disk for that, is the form with the id.
  if (!framed) attempt(() => history.replaceState(null, ""));
  addEventListener("message", hear);
  window.set_pin = () => {
    page.setPin();
  };
  addEventListener("DOMContentLoaded", () => {
    try {
      page = pinControl(start, tell);
    } catch {
      // A part did not load: the page's own text says what to do.
      page = broken;
      waiting ??= ["set"];
    }
    if (waiting) page.open(...waiting);
  });
})();
