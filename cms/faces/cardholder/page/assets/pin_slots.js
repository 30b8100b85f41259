"use strict";

/*
 * What is seen of a field for a PIN: a slot a digit, a dot in each that is filled, and a caret.
 * The field itself lies over them, with nothing of its text to see; no digit is ever in a slot.
 */
class PinSlots {
  #min = 0;
  #max = 0;

  constructor(input, box) {
    this.input = input;
    this.box = box;
    for (const event of ["input", "focus", "blur"]) {
      input.addEventListener(event, () => this.draw());
    }
    document.addEventListener("selectionchange", () => {
      if (document.activeElement === input) this.draw();
    });
    input.addEventListener("click", (event) => this.#point(event));
  }

  /* Have so many slots, and one more for each digit beyond *min* that is entered. */
  fit(min, max) {
    this.#min = min;
    this.#max = max;
    this.draw();
  }

  draw() {
    const { input, box } = this;
    const count = input.value.length;
    const shown = Math.max(this.#min, Math.min(count + 1, this.#max));
    while (box.childElementCount < shown) box.append(document.createElement("span"));
    while (box.childElementCount > shown) box.lastChild.remove();
    box.classList.toggle("many", shown > 6);

    const focused = document.activeElement === input;
    const [start, end] = [input.selectionStart ?? count, input.selectionEnd ?? count];
    Array.from(box.children).forEach((slot, index) => {
      // Behind the last digit there may be no slot left: then the caret is at the end of that.
      const behind = start === shown && index === shown - 1;
      slot.classList.toggle("full", index < count);
      slot.classList.toggle("picked", focused && start <= index && index < end);
      slot.classList.toggle("at", focused && start === end && (index === start || behind));
      slot.classList.toggle("behind", behind);
    });
  }

  /* Text that is not seen cannot be pointed at: the caret goes behind the slot that was. */
  #point(event) {
    const { input, box } = this;
    if (event.detail === 0 || input.selectionStart !== input.selectionEnd) return;
    const slots = Array.from(box.children);
    const at = slots.findIndex((slot) => event.clientX <= slot.getBoundingClientRect().right);
    const count = input.value.length;
    const to = at === -1 ? count : Math.min(at + 1, count);
    input.setSelectionRange(to, to);
    this.draw();
  }
}
