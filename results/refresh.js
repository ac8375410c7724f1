"use strict";
// A new page only where the run has moved on, so that nobody is disturbed in reading.
let tag = null;
setInterval(async () => {
  const answer = await fetch("state").catch(() => null);
  if (!answer || !answer.ok) return;
  const now = await answer.text();
  if (tag !== null && tag !== now) location.reload();
  tag = now;
}, SECONDS * 1000);
