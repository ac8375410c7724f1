"use strict";
// A new page only where the run has moved on since this one was made, so that nobody is disturbed in reading.
setInterval(async () => {
  const answer = await fetch("state").catch(() => null);
  if (answer && answer.ok && (await answer.text()) !== "STATE") location.reload();
}, SECONDS * 1000);
