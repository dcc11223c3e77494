"use strict";
// Pages are complete without this file: it sends a form once, copies a secret, wipes it, and warns before it is lost.
(() => {
  const find = (selector) => document.querySelector(selector);
  // A form that is sent twice would show the answer to the second one, without the secret that the first one made.
  const sent = new Set();
  document.addEventListener("submit", (event) => {
    const form = event.target;
    // Not `.method`, which may be a field of the form.
    if (form.getAttribute("method") !== "post") return;
    if (sent.has(form)) return event.preventDefault();
    sent.add(form);
    // The person may have stopped it, and may send it again.
    setTimeout(() => sent.delete(form), 30000);
  });
  addEventListener("pageshow", (event) => { if (event.persisted) sent.clear(); });
  const secret = find("[data-secret]");
  if (secret) {
    const button = find("[data-copy]");
    const status = find("[data-copied]");
    let isKept = false;
    button.hidden = false;
    button.addEventListener("click", async () => {
      let isCopied = true;
      try {
        await navigator.clipboard.writeText(secret.value);
      } catch {
        // A page of plain HTTP does not have the clipboard.
        secret.focus();
        secret.select();
        isCopied = document.execCommand("copy");
      }
      isKept ||= isCopied;
      status.textContent = isCopied ? "Copied. Keep it in a safe place now." : "Press Ctrl+C or \u2318C to copy the selected key.";
    });
    secret.addEventListener("focus", () => secret.select());
    secret.addEventListener("copy", () => { isKept = true; });
    find("[data-kept]").addEventListener("click", () => { isKept = true; });
    addEventListener("beforeunload", (event) => {
      if (isKept || !secret.value) return;
      event.preventDefault();
      // The person may stay, and send a form later.
      sent.clear();
    });
    // The browser may bring the page back from its memory.
    const wipe = () => {
      if (secret.value) status.textContent = "The key is not shown any more.";
      secret.value = "";
    };
    addEventListener("pagehide", wipe);
    addEventListener("pageshow", (event) => { if (event.persisted) wipe(); });
  }
  find("[data-fault]")?.focus();
  // A date that is written is the choice, and another choice removes it.
  const choice = find("[data-date]");
  if (choice) {
    const date = find("input[type=date]");
    date.addEventListener("input", () => { choice.checked = true; });
    for (const end of document.getElementsByName(choice.name)) {
      end.addEventListener("change", () => { if (!choice.checked) date.value = ""; });
    }
  }
})();
