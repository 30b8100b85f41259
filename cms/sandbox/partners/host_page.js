"use strict";

/*
 * The app's page. It holds no PIN: it asks for control tokens and control ids, and gives the
 * browser the addresses of an image and of pages. What it must check is who says that a page is
 * over.
 */
(() => {
  const SHOWN_MS = 30_000;
  const byId = (id) => document.getElementById(id);
  const say = (text) => { byId("said").textContent = text; };

  /* Run *act* at a press of a button, once at a time, and say what went wrong. */
  const on = (id, act) => {
    const button = byId(id);
    button.addEventListener("click", async () => {
      button.disabled = true;
      say("");
      try {
        await act();
      } catch (error) {
        say(error.message);
      }
      button.disabled = false;
    });
  };

  /* The hosted face. */
  const hosted = async ({ baseUrl, clientKey, accessToken }) => {
    const call = async (method, path, members) => {
      const headers = { "X-Client-Key": clientKey, Authorization: "Bearer " + accessToken };
      if (members) headers["Content-Type"] = "application/json";
      const body = members && JSON.stringify(members);
      let answer;
      try {
        answer = await fetch(baseUrl + path, { method, headers, body, cache: "no-store" });
      } catch {
        byId("trust").hidden = false;
        throw new Error("The service at " + baseUrl + " cannot be reached.");
      }
      byId("trust").hidden = true;
      const got = await answer.json();
      if (!answer.ok) throw new Error("The service said " + answer.status + ": " + got.message);
      return got;
    };

    const showCard = async () => {
      const card = await call("GET", "/v1/card/status");
      const { isSet, changedAt, canView, canSet } = card.pin;
      const facts = {
        Card: card.id + ", ends in " + card.panLast4,
        Status: card.status,
        PIN: isSet ? "set " + new Date(changedAt).toLocaleString() : "not set",
        "It can be": [canView && "seen", canSet && "set"].filter(Boolean).join(" and ") || "neither",
      };
      byId("card").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
        const [term, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
        term.textContent = name;
        text.textContent = value;
        return [term, text];
      }));
    };

    /* The image. */
    const pin = byId("pin");
    let hiding = null;
    const hidePin = () => {
      clearTimeout(hiding);
      pin.removeAttribute("src");
      pin.hidden = byId("hide").hidden = true;
    };
    const showPin = async () => {
      hidePin();
      const { imageUrl } = await call("POST", "/v1/card/pin/token");
      pin.src = imageUrl;
      await pin.decode().catch(() => {
        hidePin();
        throw new Error("The image did not come.");
      });
      pin.hidden = byId("hide").hidden = false;
      hiding = setTimeout(hidePin, SHOWN_MS);
    };
    // Not in another tab's preview, nor when one comes back.
    document.addEventListener("visibilitychange", () => document.hidden && hidePin());
    addEventListener("pagehide", hidePin);

    /* The page, embedded. */
    let frame = null;
    const closeFrame = () => {
      frame?.remove();
      frame = null;
      byId("close").hidden = true;
    };
    const embed = async () => {
      closeFrame();
      hidePin();
      const { hostedPageUrl } = await call("POST", "/v1/card/set-pin/token", { isEmbedded: true });
      frame = document.createElement("iframe");
      frame.title = "Set the PIN";
      frame.src = hostedPageUrl;
      byId("frame").append(frame);
      byId("close").hidden = false;
      frame.focus();
    };
    addEventListener("message", (event) => {
      // Anybody can send a message: only the page in our frame, at the service's origin, counts.
      if (event.origin !== baseUrl || frame === null || event.source !== frame.contentWindow) return;
      if (event.data?.type !== "abort") return;
      closeFrame();
      byId("embed").focus();
      say("The page has closed; the card says when the PIN was set.");
      showCard().catch((error) => say(error.message));
    });

    /* The page, in this one's place. */
    const redirect = async () => {
      const redirectUrl = location.origin + "/?back";
      const { hostedPageUrl } = await call("POST", "/v1/card/set-pin/token", { redirectUrl });
      location.assign(hostedPageUrl);
    };

    byId("service").textContent = byId("service").href = baseUrl;
    on("try-again", showCard);
    on("refresh", showCard);
    on("show", showPin);
    on("hide", hidePin);
    on("embed", embed);
    on("close", closeFrame);
    on("redirect", redirect);
    await showCard();
  };

  /* The pincontrol face: our own server asks for the ids. */
  const pincontrol = ({ baseUrl, frameKey, producedPlasticId, unproducedPlasticId }) => {
    const refusal = byId("refusal");
    const ask = async (operation) => {
      refusal.hidden = true;
      const plasticId = byId("personalised").checked ? producedPlasticId : unproducedPlasticId;
      const path = "/pincontrol/" + operation + "?plasticId=" + plasticId;
      const answer = await fetch(path, { method: "POST", cache: "no-store" });
      const got = await answer.json();
      if (answer.ok) return got;
      refusal.textContent = JSON.stringify(got, null, 2);
      refusal.hidden = false;
      refusal.scrollIntoView({ block: "center" });
      throw new Error("The service said " + answer.status + ": " + got.message);
    };

    /* What a webview does, in a tab. */
    const form = byId("webview");
    const browse = async (operation) => {
      const { id, pinURL } = await ask(operation);
      form.action = pinURL;
      form.elements.controlId.value = id;
      form.submit();
      form.elements.controlId.value = "";
    };

    /* The page, embedded. */
    let frame = null;
    const post = (message) => frame?.contentWindow.postMessage(message, baseUrl);
    const close = () => {
      frame?.remove();
      frame = null;
      byId("events").replaceChildren();
      byId("events").hidden = byId("frame-submit").hidden = byId("frame-close").hidden = true;
    };
    const embed = async (operation) => {
      const { id, pinFrameURL } = await ask(operation);
      close();
      frame = document.createElement("iframe");
      frame.title = "The PIN";
      frame.src = pinFrameURL + "?" + new URLSearchParams({ key: frameKey });
      const message = { operation: operation + "-pin", controlId: id };
      frame.addEventListener("load", () => post(message), { once: true });
      byId("control-frame").append(frame);
      byId("events").hidden = byId("frame-close").hidden = false;
      byId("frame-submit").hidden = operation !== "set";
      frame.focus();
    };
    addEventListener("message", ({ data, origin, source }) => {
      if (origin !== baseUrl || frame === null || source !== frame.contentWindow) return;
      const line = document.createElement("li");
      line.textContent = JSON.stringify(data);
      byId("events").append(line);
      if (data.event === "set_pin_success") byId("refresh").click();
    });

    for (const operation of ["view", "set"]) {
      on("android-" + operation, () => browse(operation));
      on("ios-" + operation, () => browse(operation));
      on("frame-" + operation, () => embed(operation));
    }
    on("frame-submit", () => post({ operation: "set-pin-set" }));
    on("frame-close", close);
  };

  const start = async () => {
    const back = new URLSearchParams(location.search).has("back");
    history.replaceState(null, "", "/");
    try {
      const answer = await fetch("/config.json", { cache: "no-store" });
      const config = await answer.json();
      pincontrol(config.pincontrol);
      await hosted(config.hosted);
      if (back) say("Back from the page; the card says when the PIN was set.");
    } catch (error) {
      say(error.message);
    }
  };

  start();
})();
