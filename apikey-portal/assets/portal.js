"use strict";
// Pages are complete without this file: it copies a secret, wipes it, and warns before it is lost.
(() => {
  const find = (selector) => document.querySelector(selector);
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
    addEventListener("beforeunload", (event) => { if (!isKept && secret.value) event.preventDefault(); });
    // The browser may bring the page back from its memory.
    const wipe = () => {
      if (secret.value) status.textContent = "The key is not shown any more.";
      secret.value = "";
    };
    addEventListener("pagehide", wipe);
    addEventListener("pageshow", (event) => { if (event.persisted) wipe(); });
  }
  find("[data-fault]")?.focus();
  // A date that is written is the choice.
  find("input[type=date]")?.addEventListener("input", () => {
    const choice = find("[data-date]");
    if (choice) choice.checked = true;
  });
})();
