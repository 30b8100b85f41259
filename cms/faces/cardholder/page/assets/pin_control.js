"use strict";

/*
 * The page that an app shows in a webview or an iframe: an id becomes the image of a PIN, or a
 * session in which one is set. After a failure the app may ask again; after success it may not.
 */
const pinControl = (start, tell) => {
  const parts = pageParts;
  const supported = pinJwe.supported();
  const path = (verb) => "/pincontrol/page/" + verb;
  let purpose = null;
  let run = null;
  let done = false;

  const fail = (state) => {
    run = null;
    parts.showNotice(state);
    tell(purpose + "_pin_error");
  };

  const succeed = () => {
    run = null;
    done = true;
    tell(purpose + "_pin_success");
  };

  const set = new SetFlow(parts, path, {
    changed: (usable) => tell("pin_valid", usable),
    invalid: () => tell("set_pin_validation_error"),
    over: (state) => {
      if (state !== "done") return fail(state);
      parts.showNotice("done", start.flow === "webview" ? { next: "close_page" } : {});
      succeed();
    },
  });

  const view = new PinView(parts, path, start.hideSeconds, {
    shown: succeed,
    hidden: () => parts.showNotice("hidden"),
    failed: fail,
  });

  const openSet = async (body) => {
    const mine = run;
    try {
      const { status, members } = await parts.post(path("session"), body);
      if (run !== mine) return;
      if (status === 200 && members.session) set.begin(body.controlId, members);
      else fail(status === 410 ? "ended" : "unopened");
    } catch {
      // A browser that lacks something: the app must not wait for ever.
      if (run === mine) fail("unopened");
    }
  };

  addEventListener("pageshow", (event) => {
    // What is being submitted has its answer still to come.
    if (!event.persisted || set.busy) return;
    if (run !== null) fail("used");
    else parts.showNotice("used");
  });

  // A frame takes no focus from the app around it before it has been asked for something.
  if (start.flow === "frame") parts.showNotice("waiting", { quiet: true });

  return {
    /* Use an id that the app has got. Returns false where another is in use or has been used. */
    open(asked, controlId) {
      if (run !== null || done) return false;
      run = {};
      purpose = asked;
      if (!supported) {
        fail("insecure");
        return true;
      }
      parts.showNotice("loading");
      const body = { controlId, key: start.key ?? null };
      if (purpose === "view") view.open(body);
      else openSet(body);
      return true;
    },

    /* Submit, as the app's own button asks for it. */
    setPin() {
      if (done || purpose === "view" || (purpose !== null && run === null)) return;
      if (set.open) set.submit();
      else tell("set_pin_validation_error");
    },
  };
};
