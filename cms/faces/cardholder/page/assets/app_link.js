/*
 * The app around the page, a native one or a parent window: what it asks for, from the moment on
 * that this script has run, and what it is told. Nobody else is heard, nobody else is told.
 *
 * ECMAScript 5, and part of the page: it runs where the page's other scripts cannot be had, or are
 * too new for the webview, and tells the app that they did not.
 */
(function () {
  "use strict";

  var ID_CHARS_MAX = 64;
  // An id lives so long: what has not loaded by then can use none.
  var LOADING_MS_MAX = 30000;
  var PURPOSES = { "view-pin": "view", "set-pin": "set" };

  var element = document.getElementById("page-start");
  var start = JSON.parse(element.textContent);
  element.parentNode.removeChild(element);
  var framed = start.flow === "frame";
  var parentOrigin = null;
  // Of several ids the first counts, so no other is kept.
  var waiting = null;
  var givingUp = null;

  function attempt(call) {
    try {
      call();
    } catch (error) {
      // Whatever the app does, the page goes on.
    }
  }

  /* Tell the app of an event; pin_valid alone has a value. */
  function tell(event, valid) {
    var hasValue = arguments.length > 1;
    var message = hasValue ? { event: event, pin_valid: valid } : { event: event };
    if (framed) {
      if (window.parent === window) return;
      (parentOrigin === null ? start.targetOrigins : [parentOrigin]).forEach(function (origin) {
        attempt(function () {
          window.parent.postMessage(message, origin);
        });
      });
      return;
    }
    // Looked up each time: an app may add its handlers late, and take them away.
    attempt(function () {
      var handler = window.android_handler;
      if (!handler || !handler[event]) return;
      if (hasValue) handler[event](valid);
      else handler[event]();
    });
    attempt(function () {
      window.webkit.messageHandlers.ios_handler.postMessage(message);
    });
  }

  function tellError(purpose) {
    tell(purpose + "_pin_error");
  }

  /* Of what is for nothing that is known, either may be waited for. */
  function tellBothErrors() {
    tellError("view");
    tellError("set");
  }

  /* Until the rest has loaded. */
  var page = {
    open: function (purpose, controlId) {
      if (waiting) return false;
      waiting = [purpose, controlId];
      givingUp = setTimeout(giveUp, LOADING_MS_MAX);
      return true;
    },
    setPin: function () {
      if (!waiting || waiting[0] !== "view") tell("set_pin_validation_error");
    }
  };
  var broken = {
    open: function (purpose) {
      tellError(purpose);
      return true;
    },
    setPin: function () {}
  };

  function giveUp() {
    page = broken;
    tellError(waiting[0]);
  }

  function begin() {
    // Too late: the app was told, and may have asked for another page.
    if (page === broken) return;
    clearTimeout(givingUp);
    if (start.failed) {
      page = broken;
      tellBothErrors();
      return;
    }
    try {
      page = pinControl(start, tell);
      if (waiting) page.open(waiting[0], waiting[1]);
    } catch (error) {
      // A part did not load, or needs what is not here: the page's own text says what to do.
      page = broken;
      tellError(waiting ? waiting[0] : "set");
    }
  }

  function isPlain(data) {
    return typeof data === "object" && data !== null &&
      Object.getPrototypeOf(data) === Object.prototype;
  }

  /* The id in a message, by either of its names; null where there is none, or two. */
  function idIn(data) {
    var ids = [data.controlId, data.pinControlId].filter(function (id) {
      return id !== undefined;
    });
    var fits = ids.length > 0 && ids[0] === ids[ids.length - 1] &&
      typeof ids[0] === "string" && ids[0].length <= ID_CHARS_MAX;
    return fits ? ids[0] : null;
  }

  function hear(message) {
    if (!framed || window.parent === window || message.source !== window.parent) return;
    if (start.targetOrigins.indexOf(message.origin) === -1) return;
    parentOrigin = message.origin;
    var data = message.data;
    var operation = isPlain(data) ? data.operation : null;
    if (operation === "set-pin-set") {
      page.setPin();
    } else if (typeof operation !== "string" || !PURPOSES.hasOwnProperty(operation)) {
      tellBothErrors();
    } else {
      var id = idIn(data);
      var taken = false;
      attempt(function () {
        taken = id !== null && page.open(PURPOSES[operation], id);
      });
      if (!taken) tellError(PURPOSES[operation]);
    }
  }

  // What a browser would post again, and keep on disk for that, is the form with the id.
  if (!framed) {
    attempt(function () {
      history.replaceState(null, "");
    });
  }
  if (start.controlId) page.open(start.purpose, start.controlId);
  window.addEventListener("message", hear);
  window.set_pin = function () {
    page.setPin();
  };
  document.addEventListener("DOMContentLoaded", begin);
})();
