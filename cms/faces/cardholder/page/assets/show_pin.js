"use strict";

/*
 * A PIN in sight for a short time: an image from memory and, where the issuer allows it and after
 * a gesture, its digits as text, which a voice of this device may read out. Hidden, all is gone.
 */
class PinView {
  static #TICK_MS = 1000;
  #image = null;
  #session = null;
  #controlToken = null;
  #grantId = null;
  #endsAtMs = 0;
  #ticking = null;

  /*
   * path(verb): where to POST. hooks: shown(), hidden(), and failed(state), "ended" or "unshown".
   */
  constructor(parts, path, hideSeconds, hooks) {
    const { byId } = parts;
    this.parts = parts;
    this.path = path;
    this.hideSeconds = hideSeconds;
    this.hooks = hooks;
    this.reveal = byId("reveal");
    this.speak = byId("speak");
    this.hint = byId("view-hint");
    byId("hide").addEventListener("click", () => this.hide());
    this.reveal.addEventListener("click", () => this.#toText());
    this.speak.addEventListener("click", () => this.#say());
    globalThis.speechSynthesis?.addEventListener?.("voiceschanged", () => this.#offerVoice());
    parts.onLanguage(() => this.#retext());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden || this.#image === null) return;
      if (this.#image.isConnected) this.hide();
      else this.#fail();
    });
    addEventListener("pagehide", () => {
      this.hide();
      this.#image = null;
    });
  }

  /* Spend an id for the image, and show it. */
  async open(body) {
    const image = new Image();
    this.#image = image;
    const answer = await this.parts.request(this.path("view"), body);
    const blob = answer?.status === 200 ? await answer.blob().catch(() => null) : null;
    if (this.#image !== image) return;
    if (blob === null) {
      this.#image = null;
      this.hooks.failed(answer?.status === 410 ? "ended" : "unshown");
      return;
    }
    this.#session = answer.headers.get("X-Pin-Session");
    if (this.#session !== null) {
      this.#controlToken = body.controlId;
      this.#grantId = answer.headers.get("X-Pin-Grant");
    }
    this.parts.nameCard(answer.headers.get("X-Pin-Last-Four"));
    image.alt = this.parts.text("image_alt");
    image.draggable = false;
    image.addEventListener("load", () => {
      if (this.#image !== image) return;
      try {
        this.#show();
      } catch {
        // A browser that lacks something: the app must not wait for ever.
        this.#fail();
      }
    });
    image.addEventListener("error", () => {
      if (this.#image === image) this.#fail();
    });
    image.src = URL.createObjectURL(blob);
  }

  /* Nothing was shown, and nothing is to appear later where nobody looks any more. */
  #fail() {
    this.#forget();
    this.hooks.failed("unshown");
  }

  /* Take the PIN out of sight and out of memory. Nothing is to be done where none is shown. */
  hide() {
    if (!this.#image?.isConnected) return;
    this.#forget();
    this.hooks.hidden();
  }

  #show() {
    const { byId, show } = this.parts;
    byId("image-box").append(this.#image);
    this.reveal.hidden = this.#session === null;
    this.#setTime();
    this.#ticking = setInterval(() => this.#tick(), PinView.#TICK_MS);
    show("view", "view_title");
    byId("view-title").focus();
    this.hooks.shown();
  }

  #forget() {
    clearInterval(this.#ticking);
    globalThis.speechSynthesis?.cancel?.();
    URL.revokeObjectURL(this.#image.src);
    this.#image.removeAttribute("src");
    this.#image.remove();
    this.#image = null;
    this.parts.byId("digits-box").textContent = "";
    this.reveal.hidden = this.speak.hidden = this.hint.hidden = true;
    if (this.#session === null) return;
    this.parts.post(this.path("cancel"), { session: this.#session }, { keepalive: true });
    this.#session = this.#controlToken = null;
  }

  #setTime() {
    this.#endsAtMs = Date.now() + this.hideSeconds * 1000;
    this.#writeTime();
  }

  get #left() {
    return Math.max(0, Math.ceil((this.#endsAtMs - Date.now()) / 1000));
  }

  #tick() {
    if (this.#left === 0) this.hide();
    else this.#writeTime();
  }

  /* Seen, not spoken: no live region. */
  #writeTime() {
    const { byId, text } = this.parts;
    byId("hides-in").textContent = text("hides_in", { seconds: this.#left });
  }

  #retext() {
    if (this.#image === null) return;
    this.#image.alt = this.parts.text("image_alt");
    this.#writeTime();
    this.#offerVoice();
  }

  /* Once: the server gives the digits to one key of this page and never again. */
  async #toText() {
    const [image, session] = [this.#image, this.#session];
    const [controlToken, grantId] = [this.#controlToken, this.#grantId];
    if (session === null) return;
    this.#session = this.#controlToken = null;
    let digits = null;
    try {
      const keys = await pinJwe.newKeys();
      const key = await pinJwe.publicOf(keys);
      const { members } = await this.parts.post(
        this.path("digits"), { session, controlToken, key },
      );
      digits = await pinJwe.open(members.jwe, grantId, keys);
    } catch {
      // As a JWE that is not for us.
    }
    if (this.#image !== image) return;
    if (digits === null) {
      this.hint.hidden = false;
      this.parts.announce(this.hint.textContent);
      this.parts.byId("hide").focus();
    } else {
      this.#write(digits);
    }
    this.reveal.hidden = true;
  }

  /* The heading gets the focus, not the digits: whoever listens decides to read on. */
  #write(digits) {
    const heading = document.createElement("h2");
    heading.dataset.text = "digits_label";
    heading.textContent = this.parts.text("digits_label");
    heading.tabIndex = -1;
    const line = document.createElement("p");
    line.id = "digits";
    line.dir = "ltr";
    // Apart, so that they are read as digits and not as one number.
    line.textContent = [...digits].join(" ");
    this.parts.byId("digits-box").append(heading, line);
    this.#setTime();
    this.#offerVoice();
    heading.focus();
  }

  /* A voice of this device: what a remote one reads out, others get to know. */
  #voice() {
    const voices = globalThis.speechSynthesis?.getVoices?.() ?? [];
    const local = voices.filter((voice) => voice.localService === true);
    const { lang } = document.documentElement;
    const same = local.find((voice) => voice.lang.split(/[-_]/)[0].toLowerCase() === lang);
    return same ?? local[0] ?? null;
  }

  #offerVoice() {
    this.speak.hidden = this.parts.byId("digits") === null || this.#voice() === null;
  }

  #say() {
    const [line, voice] = [this.parts.byId("digits"), this.#voice()];
    if (line === null || voice === null) return;
    const words = new SpeechSynthesisUtterance(line.textContent.replaceAll(" ", ", "));
    words.voice = voice;
    words.lang = voice.lang;
    speechSynthesis.cancel();
    speechSynthesis.speak(words);
  }
}
