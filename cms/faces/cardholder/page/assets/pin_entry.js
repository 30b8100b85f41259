"use strict";

/*
 * Two fields for one PIN: what may be typed, what may be used, and what to say about it. The
 * second comes when the first is right. The rules come from the server; those that depend on the
 * card are checked there alone.
 */
class PinEntry {
  /*
   * A password field keeps its digits from screen readers, and "one-time-code" keeps it from
   * password managers; not from Firefox's, which offers to save whatever ever was a password.
   * There the digits are text, masked by the page's style.
   */
  static #TYPE = CSS.supports("-moz-appearance", "none") ? "text" : "password";

  static #RUNS = ["0123456789", "9876543210"];
  values = { min: 0, max: 0 };
  #rules = [];

  /*
   * parts: the page, its texts and announcements. changed(usable) is called whenever there is
   * another entry.
   */
  constructor(parts, changed) {
    this.first = PinEntry.#field(parts, "first");
    this.second = PinEntry.#field(parts, "second");
    this.list = parts.byId("rules");
    this.parts = parts;
    this.changed = changed;
    for (const field of [this.first, this.second]) {
      field.input.type = PinEntry.#TYPE;
      field.input.addEventListener("beforeinput", (event) => this.#refuse(event, field));
      field.input.addEventListener("input", () => this.#edited(field));
      field.input.addEventListener("blur", () => this.#left(field));
    }
  }

  /* Have empty fields; rules: {digitsMin, digitsMax, refuseRepeated, refuseRuns}. */
  start(rules) {
    const { digitsMin: min, digitsMax: max } = rules;
    this.values = { min, max };
    this.span = min === max ? "exact" : "range";
    this.#rules = [
      {
        text: "rule_length_" + this.span,
        fault: "error_length_" + this.span,
        met: (value) => value.length >= min && value.length <= max,
      },
      rules.refuseRepeated && {
        text: "rule_repeated",
        fault: "error_repeated",
        met: (value) => new Set(value).size > 1,
      },
      rules.refuseRuns && {
        text: "rule_runs",
        fault: "error_run",
        met: (value) => !PinEntry.#RUNS.some((run) => run.includes(value)),
      },
    ].filter(Boolean);
    for (const { input, slots } of [this.first, this.second]) {
      input.maxLength = max;
      slots.fit(min, max);
    }
    this.clear();
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

  /* Take the digits out of the page, as an array of numbers. Their dots stay until they went. */
  take() {
    const digits = Array.from(this.first.input.value, Number);
    for (const field of [this.first, this.second]) {
      field.input.value = "";
      field.input.disabled = true;
      this.#say(field, null);
    }
    return digits;
  }

  clear() {
    for (const field of [this.first, this.second]) {
      field.input.value = "";
      field.slots.draw();
      this.#say(field, null);
    }
    this.first.input.disabled = false;
    this.#offerSecond(false);
    this.#tick();
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
    this.#tick();
  }

  static #field(parts, name) {
    const input = parts.byId(name + "-pin");
    const slots = new PinSlots(input, parts.byId(name + "-slots"));
    return { input, slots, hint: parts.byId(name + "-hint"), box: input.closest(".field") };
  }

  #offerSecond(usable) {
    this.second.input.disabled = !usable;
    this.second.box.hidden = !usable;
  }

  /* Write the rules, each with whether the first entry keeps it, as far as can be told by now. */
  #tick() {
    const { value } = this.first.input;
    const all = value.length >= this.values.min;
    this.list.replaceChildren(...this.#rules.map(({ text, met }) => {
      const item = document.createElement("li");
      item.textContent = this.parts.text(text, this.values);
      if (value !== "" && met(value)) {
        item.className = "met";
        const word = document.createElement("span");
        word.className = "unseen";
        word.textContent = " (" + this.parts.text("rule_met") + ")";
        item.append(word);
      } else if (all) {
        item.className = "broken";
      }
      return item;
    }));
  }

  #fault(value) {
    return this.#rules.find(({ met }) => !met(value))?.fault ?? null;
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
        : length > this.values.max && "error_length_" + this.span;
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
      this.second.slots.draw();
      this.#offerSecond(!this.#fault(digits));
      this.#say(this.second, null);
      this.#tick();
    }
    field.slots.draw();
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
