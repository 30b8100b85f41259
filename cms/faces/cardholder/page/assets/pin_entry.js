"use strict";

/*
 * Two fields for one PIN: what may be typed, what may be used, and what to say about it. The
 * rules come from the server; those that depend on the card are checked there alone.
 */
class PinEntry {
  /*
   * A password field keeps its digits from screen readers, and "one-time-code" keeps it from
   * password managers; not from Firefox's, which offers to save whatever ever was a password.
   * There the digits are text, masked by the page's style.
   */
  static #TYPE = CSS.supports("-moz-appearance", "none") ? "text" : "password";

  /*
   * first, second: {input, hint}. parts: texts and announcements. changed(usable) is called
   * whenever there is another entry.
   */
  constructor(first, second, parts, changed) {
    this.first = first;
    this.second = second;
    this.parts = parts;
    this.changed = changed;
    for (const field of [first, second]) {
      field.input.type = PinEntry.#TYPE;
      field.input.addEventListener("beforeinput", (event) => this.#refuse(event, field));
      field.input.addEventListener("input", () => this.#edited(field));
      field.input.addEventListener("blur", () => this.#left(field));
    }
  }

  /* Have empty fields; rules: {digitsMin, digitsMax, refuseRepeated, refuseRuns}. */
  start(rules) {
    this.rules = rules;
    this.values = { min: rules.digitsMin, max: rules.digitsMax };
    this.span = rules.digitsMin === rules.digitsMax ? "exact" : "range";
    for (const { input } of [this.first, this.second]) input.maxLength = rules.digitsMax;
    this.clear();
  }

  /* The text of the rules, for the head of the group. */
  get intro() {
    return [
      ["intro_" + this.span],
      ...(this.rules.refuseRepeated ? [["rule_repeated"]] : []),
      ...(this.rules.refuseRuns ? [["rule_runs"]] : []),
    ].map(([key]) => this.parts.text(key, this.values)).join(" ");
  }

  /* True when both fields are complete, equal and allowed. */
  get usable() {
    const [first, second] = [this.first.input.value, this.second.input.value];
    return !this.#fault(first) && first === second;
  }

  /* True when something has been entered. */
  get touched() {
    return this.first.input.value !== "";
  }

  /* Take the digits out of the page, as an array of numbers. */
  take() {
    const digits = Array.from(this.first.input.value, Number);
    this.clear();
    // While they are on their way nothing is to be entered.
    this.#say(this.second, null);
    return digits;
  }

  clear() {
    for (const field of [this.first, this.second]) {
      field.input.value = "";
      this.#say(field, null);
    }
    this.second.input.disabled = true;
    this.#say(this.second, "second_hint");
  }

  /* Go to the field that comes next, saying what is wrong. Returns whether none does. */
  ready() {
    const fault = this.#fault(this.first.input.value);
    if (fault) {
      this.#say(this.first, fault, "error");
      this.first.input.focus();
    } else if (!this.usable) {
      // Whoever just finished the first field has made no mistake yet.
      const begun = this.second.input.value !== "" || document.activeElement !== this.first.input;
      if (begun) this.#say(this.second, this.#mismatch(), "error");
      this.second.input.focus();
    }
    return this.usable;
  }

  /* Start again, with a reason at the first field. */
  restart(key) {
    this.clear();
    this.#say(this.first, key, "error");
    this.first.input.focus();
    this.changed(false);
  }

  /* Write the hints again, in another language. */
  retext() {
    for (const field of [this.first, this.second]) {
      if (field.said) field.hint.textContent = this.#text(field);
    }
  }

  #fault(value) {
    const { digitsMin, digitsMax, refuseRepeated, refuseRuns } = this.rules;
    if (value.length < digitsMin || value.length > digitsMax) return "error_length_" + this.span;
    if (refuseRepeated && new Set(value).size === 1) return "error_repeated";
    const run = "0123456789";
    const backwards = "9876543210";
    if (refuseRuns && (run.includes(value) || backwards.includes(value))) return "error_run";
    return null;
  }

  /* An empty or unfinished second entry is short, not different. */
  #mismatch() {
    const [first, second] = [this.first.input.value, this.second.input.value];
    return second.length < first.length && first.startsWith(second)
      ? "error_length_" + this.span
      : "error_mismatch";
  }

  /* Stop what is no digit or too much before it is in the field: a part must not vanish unseen. */
  #refuse(event, field) {
    const typed = event.data ?? event.dataTransfer?.getData("text/plain") ?? "";
    if (event.isComposing || typed === "") return;
    const { selectionStart, selectionEnd, value } = field.input;
    const length = value.length - (selectionEnd - selectionStart) + typed.length;
    const digits = PinEntry.#ascii(typed);
    const refusal =
      digits.length !== typed.length
        ? "error_digits"
        : length > this.rules.digitsMax && "error_length_" + this.span;
    if (!refusal) return;
    event.preventDefault();
    this.#say(field, refusal, "error");
  }

  #edited(field) {
    // Only where beforeinput cannot stop it: some keyboards compose, some digits are not ASCII.
    const digits = PinEntry.#ascii(field.input.value);
    const cut = digits.length !== field.input.value.length;
    if (digits !== field.input.value) field.input.value = digits;

    if (field === this.first) {
      this.second.input.value = "";
      const usable = !this.#fault(digits);
      this.second.input.disabled = !usable;
      this.#say(this.second, usable ? null : "second_hint");
    }
    const verdict = cut ? ["error_digits", "error"] : this.#verdict(field, digits);
    this.#say(field, ...verdict);
    this.changed(this.usable);
  }

  /* What to say while somebody types: nothing is wrong yet with what is only unfinished. */
  #verdict(field, digits) {
    const count = ["count_" + this.span];
    if (field === this.second) {
      if (this.usable) return ["second_ok", "ok"];
      return this.first.input.value.startsWith(digits) ? count : ["error_mismatch", "error"];
    }
    const fault = this.#fault(digits);
    if (!fault) return ["first_ok", "ok"];
    return fault.startsWith("error_length") ? count : [fault, "error"];
  }

  #left(field) {
    const value = field.input.value;
    if (value === "") return;
    if (field === this.first) {
      const fault = this.#fault(value);
      if (fault) this.#say(field, fault, "error");
    } else if (!this.usable) {
      this.#say(field, this.#mismatch(), "error");
    }
  }

  /* kind: "ok", "error" or nothing. What is announced names no digit. */
  #say(field, key, kind = "") {
    field.said = key;
    field.hint.textContent = key ? this.#text(field) : "";
    field.hint.dataset.kind = kind;
    field.input.setAttribute("aria-invalid", String(kind === "error"));
    if (kind) this.parts.announce(field.hint.textContent);
  }

  #text(field) {
    return this.parts.text(field.said, { ...this.values, count: field.input.value.length });
  }

  /* The ASCII digits of *text*; Arabic, Persian and full-width ones become ASCII. */
  static #ascii(text) {
    let digits = "";
    for (const character of text) {
      const code = character.codePointAt(0);
      const zero = [0x30, 0x660, 0x6f0, 0xff10].find((start) => code >= start && code < start + 10);
      if (zero !== undefined) digits += code - zero;
    }
    return digits;
  }
}
