"use strict";

/*
 * Setting a PIN in a session that the server has opened: two equal entries become a JWE, in the
 * time that there is. How a session is had, and what its end means, is for the face to say.
 */
class SetFlow {
  static #TICK_MS = 1000;
  #session = null;
  #controlToken = null;
  #opening = null;
  #busy = false;
  #endsAtMs = 0;
  #ticking = null;
  #warning = null;

  /*
   * path(verb): where to POST. hooks: changed(usable) at every change of the fields, invalid()
   * when an entry was to be sent and cannot be used, over(state) when the session is, "done",
   * "blocked", "changed", "ended", "expired" or "failed".
   */
  constructor(parts, path, hooks) {
    const { byId } = parts;
    this.parts = parts;
    this.path = path;
    this.hooks = hooks;
    this.form = byId("pin-form");
    this.extend = byId("extend");
    this.entry = new PinEntry(parts, hooks.changed);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.form.addEventListener("keydown", (event) => this.#key(event));
    this.extend.addEventListener("click", () => this.#prolong());
    parts.onLanguage(() => this.#retext());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden || !this.open || this.#busy) return;
      if (this.entry.touched) this.entry.restart("cleared");
    });
    addEventListener("pagehide", () => {
      this.entry.clear();
      if (!this.#busy) this.cancel();
    });
  }

  get open() {
    return this.#session !== null;
  }

  get busy() {
    return this.#busy;
  }

  /* Show the fields; members: what the server answered when it opened the session. */
  begin(controlToken, members) {
    this.#opening = members;
    this.#session = members.session;
    // The vault wants to see it with the PIN: who reads the server's records has not got it.
    // As the vault wrote it: some apps write it in capitals.
    this.#controlToken = controlToken.trim().toLowerCase();
    this.entry.start({ refuseRepeated: true, refuseRuns: false, ...members });
    this.parts.nameCard(members.lastFour);
    this.extend.hidden = false;
    this.#setTime(members.expiresInSeconds);
    this.#ticking = setInterval(() => this.#tick(), SetFlow.#TICK_MS);
    this.#retext();
    this.parts.show("entry", "title");
    this.entry.first.input.focus();
  }

  /* Send the entry, or say why it cannot be sent. */
  async submit() {
    if (this.#busy || !this.open) return;
    if (!this.entry.ready()) return this.hooks.invalid();
    const [session, controlToken] = [this.#session, this.#controlToken];
    const { grantId, key } = this.#opening;
    const digits = this.entry.take();
    this.#setBusy(true);
    let [status, members] = [0, {}];
    try {
      const jwe = await pinJwe.ofPin(digits, grantId, controlToken, key);
      const body = { session, controlToken, jwe };
      ({ status, members } = await this.parts.post(this.path("submit"), body));
    } catch {
      // As an answer that is lost.
    }
    this.#setBusy(false);
    if (status !== 422) {
      this.#end(status === 204 ? "done" : SetFlow.#why(status, members));
      return;
    }
    this.entry.restart("error_weak");
    this.hooks.invalid();
    this.#tick();
  }

  /* End the session without an answer. Nothing is to be done where none is open. */
  cancel() {
    if (!this.open) return;
    this.parts.post(this.path("cancel"), { session: this.#session }, { keepalive: true });
    this.#close();
  }

  #close() {
    this.#session = this.#controlToken = null;
    clearInterval(this.#ticking);
    this.entry.clear();
  }

  /* Why a session is over, as far as the server says. */
  static #why(status, { reason, errorCode }) {
    if (status === 403) return "blocked";
    if (status !== 410) return "failed";
    return reason === "changed" || errorCode === "PIN_CHANGED" ? "changed" : "ended";
  }

  #end(state) {
    this.#close();
    this.hooks.over(state);
  }

  /* Enter sends, also where the page has no button of its own. */
  #key(event) {
    const { first, second } = this.entry;
    if (event.key !== "Enter" || event.isComposing || event.target.localName !== "input") return;
    event.preventDefault();
    // Nobody has tried to send anything who goes from the first field on to the second.
    if (event.target === first.input && second.input.value === "") this.entry.ready();
    else this.submit();
  }

  #retext() {
    if (this.#opening === null) return;
    this.entry.retext();
    this.#writeWarning();
  }

  get #left() {
    return Math.max(0, Math.ceil((this.#endsAtMs - Date.now()) / 1000));
  }

  #tick() {
    if (this.#busy || !this.open) return;
    if (this.#left === 0) {
      this.#end("expired");
    } else if (this.#left > this.#opening.warnSeconds) {
      return;
    } else if (this.#warning === null) {
      this.#warn(this.extend.hidden ? "last_warning" : "warning");
    } else {
      this.#writeWarning();
    }
  }

  /* Announced once: a countdown that is spoken each second drowns everything else. */
  #warn(key) {
    this.#warning = key;
    this.#writeWarning();
    this.parts.byId("warning").hidden = false;
    this.parts.announce(this.parts.byId("warning").querySelector("p").textContent);
  }

  #writeWarning() {
    if (this.#warning === null) return;
    const { byId, text } = this.parts;
    byId("warning-text").textContent = text(this.#warning);
    byId("seconds-left").textContent = text("seconds_left", { seconds: this.#left });
  }

  #setTime(seconds) {
    this.#endsAtMs = Date.now() + seconds * 1000;
    this.#warning = null;
    this.parts.byId("warning").hidden = true;
  }

  async #prolong() {
    if (this.#busy || !this.open) return;
    const before = this.#left;
    const session = this.#session;
    const { status, members } = await this.parts.post(this.path("extend"), { session });
    if (session !== this.#session || this.#busy) return;
    if (status === 410) return this.#end(SetFlow.#why(status, members));
    if (status !== 200) return this.#warn("extend_failed");
    // The server's limit is reached: what cannot help is no longer offered.
    const { warnSeconds } = this.#opening;
    this.extend.hidden = members.expiresInSeconds <= Math.max(before, warnSeconds);
    this.#setTime(members.expiresInSeconds);
    this.#tick();
    if (this.#warning === null) this.parts.announce(this.parts.text("extended"));
    const { first, second } = this.entry;
    (this.entry.touched ? second : first).input.focus();
  }

  #setBusy(value) {
    const { announce, byId, text } = this.parts;
    this.#busy = value;
    this.form.setAttribute("aria-busy", String(value));
    this.form.querySelectorAll(".buttons button").forEach((button) => {
      button.disabled = value;
    });
    byId("confirm").textContent = text(value ? "saving" : "confirm");
    if (value) announce(text("saving"));
  }
}
